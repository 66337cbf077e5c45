//! The syntax of a text, for editors: as a person would write it, and as a tree.

use crate::{Error, parse};

/// The text as a person would write it: even spaces, long expressions over several lines.
///
/// ```
/// assert_eq!(query::prettified("sum(up)by(job)").unwrap(), "sum by (job) (up)");
/// ```
pub fn prettified(text: &str) -> Result<String, Error> {
    Ok(parse::parse(text)?.prettify())
}

/// The syntax tree as JSON, its nodes named as Prometheus' `parse_query` names them.
///
/// ```
/// assert!(query::tree("up").unwrap().contains("\"type\":\"vectorSelector\""));
/// ```
pub fn tree(text: &str) -> Result<String, Error> {
    let tree = parse::parse(text)?;
    serde_json::to_string(&tree).map_err(|error| Error::Execution(error.to_string()))
}
