//! What a request may say of itself, by our limits and by its token's word.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rrd::Labels;

use super::{AGENT_JOB, Denial};
use crate::limits::{LABEL_NAME_LIMIT, LABEL_VALUE_LIMIT, checked_labels};
use crate::native::{EnrollRequest, Facts};
use crate::registry::Token;

/// Bytes of a cloud's document: Azure's, with its certificates, has some 5,000.
const DOCUMENT_LIMIT: usize = 32 << 10;

/// Checks a request against what its token allows.
pub(super) fn check_token(
    token: &Token,
    request: &EnrollRequest,
    peer: Option<IpAddr>,
) -> Result<(), Denial> {
    let holds = |peer: IpAddr| token.networks.iter().any(|network| network.holds(peer));
    if !token.networks.is_empty() && !peer.is_some_and(holds) {
        let from = peer.map_or("an unknown address".to_owned(), |peer| peer.to_string());
        let message = format!("the token is not for machines at {from}; ask for one that is");
        return Err(Denial::not_allowed("cidr", message));
    }
    let Some(allowed) = &token.allowed_label_keys else { return Ok(()) };
    match request.labels.keys().find(|name| !allowed.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("the token does not allow a machine to declare label {name}");
            Err(Denial::not_allowed("label_forbidden", message))
        }
    }
}

/// An instance's labels but for its name: what it declares, its job, and over all that what is forced.
pub(in crate::intake) fn declared(
    own: &BTreeMap<String, String>,
    forced: &Labels,
) -> Result<Labels, Denial> {
    let pairs: Vec<(&str, &str)> =
        own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let labels = checked_labels(&pairs).map_err(|(_, message)| Denial::bad(message))?;
    Ok(labels.with("job", AGENT_JOB).overlaid(forced).with("instance", ""))
}

pub(super) fn check(request: &EnrollRequest) -> Result<(), Denial> {
    let name = &request.name;
    if name.is_empty() || name.len() > LABEL_NAME_LIMIT || name.chars().any(char::is_control) {
        let message = format!("name: 1 to {LABEL_NAME_LIMIT} bytes without control characters");
        return Err(Denial::bad(message));
    }
    check_reserved(&request.labels)?;
    declared(&request.labels, &Labels::default())?;
    let Facts { hostname, os, kernel, cpus: _, memory_bytes: _ } = &request.facts;
    if [hostname, os, kernel].iter().any(|fact| fact.len() > LABEL_VALUE_LIMIT) {
        return Err(Denial::bad(format!("facts: at most {LABEL_VALUE_LIMIT} bytes each")));
    }
    if request.document.as_ref().is_some_and(|document| document.text.len() > DOCUMENT_LIMIT) {
        return Err(Denial::bad(format!("document: at most {DOCUMENT_LIMIT} bytes")));
    }
    Ok(())
}

/// Labels of an instance lie over those of its series: `__name__` there would rename every metric.
pub(in crate::intake) fn check_reserved(labels: &BTreeMap<String, String>) -> Result<(), Denial> {
    match labels.keys().find(|name| name.starts_with("__")) {
        None => Ok(()),
        Some(reserved) => {
            Err(Denial::bad(format!("label {reserved}: names with __ are reserved; rename it")))
        }
    }
}
