//! A finding: one thing that is not as it should be, where, and what helps.

use std::fmt;
use std::path::{Path, PathBuf};

use rrd::{BadTile, Span};

use super::words::moment;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing is lost, nothing needs to be done.
    Remark,
    /// Something is lost or cannot be used.
    Damage,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    pub(crate) file: PathBuf,
    /// Where in the file, if not all of it.
    pub(crate) place: String,
    /// The time that is concerned, where it can be told.
    pub(crate) span: Option<Span>,
    /// What is wrong, what it means and what helps.
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn damage(file: &Path, what: impl Into<String>) -> Self {
        let (level, place) = (Level::Damage, String::new());
        Self { level, file: file.to_owned(), place, span: None, what: what.into() }
    }

    pub(crate) fn remark(file: &Path, what: impl Into<String>) -> Self {
        Self { level: Level::Remark, ..Self::damage(file, what) }
    }

    pub(crate) fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// Rows of one series that read as unknown.
    pub(crate) fn tile(file: &Path, tile: &BadTile) -> Self {
        let (first, last) = tile.rows;
        let place = format!(
            "column {} {}, archive {} of {}, rows {first} to {last}",
            tile.column.index,
            tile.labels,
            tile.archive,
            tile.spec.step_name()
        );
        let what = "their checksum does not match: they read as unknown; a backup may have them, \
                    --repair marks them unknown for good";
        Self { span: Some(tile.span()), ..Self::damage(file, what).at(place) }
    }

    const fn word(&self) -> &'static str {
        match self.level {
            Level::Remark => "remark",
            Level::Damage => "DAMAGE",
        }
    }

    pub(crate) fn json(&self, repaired: bool) -> serde_json::Value {
        serde_json::json!({
            "level": self.word().to_lowercase(),
            "file": self.file.display().to_string(),
            "place": self.place,
            "from_ms": self.span.map(|span| span.start().as_millis()),
            "to_ms": self.span.map(|span| span.end().as_millis()),
            "what": self.what,
            "repaired": repaired,
        })
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}: ", self.word(), self.file.display())?;
        if !self.place.is_empty() {
            write!(f, "{}", self.place)?;
            if let Some(span) = self.span {
                write!(f, " ({} to {} UTC)", moment(span.start()), moment(span.end()))?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}
