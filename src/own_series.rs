//! What the server tells of itself as series: when its certificate ends. It comes in by the door like any other.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use collector::listen::Tls;
use collector::{Intake, Look, LookSample};
use rrd::{Clock, Kind, Timestamp};
use tracing::warn;

/// As often as the rows of instances that relays name are wide.
const EVERY: Duration = Duration::from_mins(1);
/// Seconds until the first certificate of the chain in use ends; below 0 when it has.
const ENDS: &str = "roundel_tls_certificate_expires_in_seconds";

/// Tells of `tls` every minute until `shutdown` ends.
pub(crate) async fn run(
    (intake, tls): (Intake, Arc<Tls>),
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()>,
) {
    let mut tick = tokio::time::interval(EVERY);
    let mut was_refused = false;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = tick.tick() => {}
        }
        let Some(look) = tls.ends_at().map(|ends_at| look(ends_at, clock.wall())) else { continue };
        let refused = match intake.store_local(look).await {
            Ok(stored) => stored.shown.into_iter().next().map(|one| one.message),
            Err(denial) => Some(denial.to_string()),
        };
        let is_refused = refused.is_some();
        if let Some(why) = refused.filter(|_| !was_refused) {
            warn!(why, "what the server tells of itself is not taken");
        }
        was_refused = is_refused;
    }
}

/// How long a certificate is good for at `now`.
pub(crate) fn seconds_left(ends_at: Timestamp, now: Timestamp) -> f64 {
    ends_at.as_secs_f64() - now.as_secs_f64()
}

fn look(ends_at: Timestamp, now: Timestamp) -> Look {
    let sample = LookSample {
        labels: vec![("__name__".to_owned(), ENDS.to_owned())],
        kind: Kind::Gauge,
        at: now,
        value: seconds_left(ends_at, now),
    };
    Look { job: "roundel".to_owned(), instance: "server".to_owned(), samples: vec![sample] }
}
