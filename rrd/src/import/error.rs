//! Why a file of rrdtool was not taken, in words that end in a remedy.

use std::io;

use thiserror::Error;

/// What is wrong with a file, or with taking it over.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It cannot be read, or what is made of it cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither of rrdtool's two forms.
    #[error("not a file of rrdtool; give .rrd files, or what \"rrdtool dump\" prints")]
    Foreign,
    /// Binary, of a machine with other numbers.
    #[error(
        "written by a 32-bit or big-endian rrdtool; run \"rrdtool dump\" on that machine and import the XML"
    )]
    OtherMachine,
    /// A version nobody has derived the layout of.
    #[error("of version {0:?}, and 0003 to 0005 are read; run \"rrdtool dump\" and import the XML")]
    Version(String),
    /// Shorter than its header says, or cut within a tag.
    #[error("it ends too soon; copy it again, or restore it from a backup")]
    CutShort,
    /// More of something than any real file has.
    #[error("it has {have} {what}, and at most {most} are read; split the file")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As the file says.
        have: u64,
        /// The bound.
        most: u64,
    },
    /// A field that holds what rrdtool never writes there.
    #[error("its {what} is {text:?}, which rrdtool never writes; restore it from a backup")]
    Field {
        /// Which field.
        what: &'static str,
        /// What stands there.
        text: String,
    },
    /// XML that is not what `rrdtool dump` prints.
    #[error("line {line}: {what}; only the output of \"rrdtool dump\" is read")]
    Markup {
        /// Where, counted from 1.
        line: u64,
        /// What was met.
        what: String,
    },
    /// Nothing of it can be kept under this policy, or under any.
    #[error("{0}")]
    Unfit(String),
}

impl ImportError {
    pub(super) fn field(what: &'static str, text: impl std::fmt::Display) -> Self {
        Self::Field { what, text: format!("{text}") }
    }
}
