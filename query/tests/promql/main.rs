//! PromQL over rows in memory: what each expression answers, in the manner of `promqltest`.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod archives;
mod counters;
mod days;
mod functions;
mod fuzz;
mod histograms;
mod instances;
mod limits;
mod operators;
mod selectors;
mod speed;
mod story;
mod subqueries;
mod texts;
mod trends;
