//! The file of probes, watched: a good state takes the place of the last one, a bad one is told and waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rrd::Clock;
use tokio::io::AsyncReadExt as _;
use tracing::{error, info};

use super::run::{Parts, Running};
use super::settings::parse;
use crate::intake::Intake;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of the file: a thousand probes with a paragraph each.
const FILE_BYTES: u64 = 1 << 20;

/// Probes what `file` names, as long as it does, until `shutdown` is ready. Without the file nothing is
/// probed. What is found goes into `intake`.
pub async fn run(
    file: PathBuf,
    intake: Intake,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()>,
) {
    let mut watch = Watch {
        file,
        parts: Parts { intake, clock },
        running: Running::default(),
        seen: Ok(None),
        pending: None,
    };
    let work = async {
        watch.look(true).await;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            watch.look(false).await;
        }
    };
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = work => {}
    }
}

/// The text of the file, or why there is none; no file is an empty one.
type Text = Result<Option<String>, String>;

struct Watch {
    file: PathBuf,
    parts: Parts,
    running: Running,
    /// What was last looked at, good or bad, so that a bad state is told once.
    seen: Text,
    /// What was seen once and not twice: a file may be half written.
    pending: Option<Text>,
}

impl Watch {
    async fn look(&mut self, is_first: bool) {
        let text = read(&self.file).await;
        if text == self.seen {
            self.pending = None;
            return;
        }
        if !is_first && self.pending.as_ref() != Some(&text) {
            self.pending = Some(text);
            return;
        }
        self.pending = None;
        let probes = text.clone().and_then(|text| parse(&text.unwrap_or_default()));
        match probes {
            Ok(probes) => {
                info!(probes = probes.len(), "the file of probes is read");
                self.running = Running::start(probes, &self.parts);
            }
            Err(why) => {
                let file = self.file.display();
                error!(%file, why, "the probes are refused; those in force stay");
            }
        }
        self.seen = text;
    }
}

async fn read(file: &Path) -> Text {
    let opened = match tokio::fs::File::open(file).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut text = String::new();
    let read = opened.take(FILE_BYTES + 1).read_to_string(&mut text).await;
    match read.map_err(|error| error.to_string())? {
        len if len as u64 > FILE_BYTES => Err(format!("longer than {FILE_BYTES} bytes")),
        _ => Ok(Some(text)),
    }
}
