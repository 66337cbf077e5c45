//! Why a query has no answer.

use std::fmt;

use thiserror::Error;

/// Why a query has no answer; each kind asks something else of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The text is not PromQL: the asker corrects it.
    #[error("{}parse error: {message}", Prefix(*at))]
    Parse {
        /// Where in the text, if it is known.
        at: Option<Position>,
        /// What is wrong there.
        message: String,
    },
    /// The text is PromQL, but this program does not evaluate that part of the language.
    #[error("{what} is not evaluated by this program; evaluated are: {evaluated}")]
    Unsupported {
        /// The function, operator or construct.
        what: String,
        /// Those of the same sort that are evaluated.
        evaluated: String,
    },
    /// The answer would be too large; ask for less of it.
    #[error("{0}")]
    Limit(String),
    /// The data do not allow the operation, as when two series would get the same labels.
    #[error("{0}")]
    Execution(String),
    /// Whoever asked waits no longer: see [`Patience`](crate::Patience).
    #[error("the query was cancelled; ask for less, or wait longer")]
    Cancelled,
}

/// A place in the text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Character in the line.
    pub column: usize,
}

impl Position {
    /// The place of byte `offset` of `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self { line, column }
    }
}

struct Prefix(Option<Position>);

/// As Prometheus writes it: `1:5: `.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "{}:{}: ", at.line, at.column),
            None => Ok(()),
        }
    }
}

impl Error {
    pub(crate) fn parse(message: impl Into<String>) -> Self {
        Self::Parse { at: None, message: message.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, evaluated: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), evaluated: evaluated.into() }
    }
}
