//! PromQL over round-robin archives: parse, choose the archive, evaluate.
//!
//! Pure but for the trait [`Read`]: no clock, no files, no tasks. An [`Expr`] is text turned into a
//! typed plan; a range query evaluates each node of it once, in columns over all moments.

mod read;

mod answer;
mod error;
mod expr;
mod limits;
mod moments;
mod near;
mod patience;

mod lower;
mod parse;
mod patterns;
mod plan;
mod scan;
mod syntax;

mod archive;
mod columns;
mod counts;
mod evaluate;
mod fetch;
mod looks;
mod notes;
mod subquery;
mod sweep;

mod aggregate;
mod ask;
mod count_values;
mod dates;
mod extrapolate;
mod fold;
mod functions;
mod histogram;
mod matching;
mod natural;
mod operators;
mod relabel;
mod samples;
mod sets;
mod store;
mod window;

pub mod memory;

pub use answer::{Answer, Line, Point, Resolution, Value};
pub use error::{Error, Position};
pub use expr::{Expr, matchers};
pub use limits::{ANSWER_POINTS, LOOKS, Limits, Options, POINTS, POINTS_PER_LINE, SERIES};
pub use moments::Range;
pub use patience::Patience;
pub use read::{Read, RowParts, Rows, RowsWanted, Series};
pub use syntax::{prettified, tree};
