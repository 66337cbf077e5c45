//! A resource: whom points are about, and what else its sender says of itself.

use rrd::Timestamp;

use super::model::Attribute;
use super::names::label_name;

/// Labels of `target_info`; with `__name__`, `job` and `instance` they stay within a series' limit.
const INFO_LABEL_LIMIT: usize = 24;
/// Bytes of one of its values: what is longer describes no one by name.
const INFO_VALUE_LIMIT: usize = 128;
/// Bytes of them all, so that the key stays within its limit.
const INFO_SIZE_LIMIT: usize = 1_280;

/// Whom the points are about.
#[derive(Debug, Default)]
pub(super) struct Resource {
    /// `service.namespace/service.name`, or the latter alone.
    pub(super) job: String,
    /// `service.instance.id`, else `host.name`.
    pub(super) instance: String,
    /// The labels of `target_info`.
    pub(super) info: Vec<(String, String)>,
    /// The time of its newest point.
    pub(super) newest: Option<Timestamp>,
}

impl Resource {
    pub(super) fn of(attributes: &[Attribute<'_>]) -> Self {
        let text = |wanted: &str| {
            let found = attributes.iter().find(|(name, _)| name == wanted);
            found.and_then(|(_, value)| value.as_deref()).filter(|value| !value.is_empty())
        };
        let name = text("service.name").unwrap_or_default();
        let job = text("service.namespace")
            .filter(|_| !name.is_empty())
            .map_or_else(|| name.to_owned(), |space| format!("{space}/{name}"));
        let (identity, instance) = match text("service.instance.id") {
            Some(id) => ("service.instance.id", id),
            None => ("host.name", text("host.name").unwrap_or_default()),
        };
        let named = ["service.name", "service.namespace", identity];
        let rest = attributes.iter().filter(|(name, _)| !named.contains(&name.as_ref()));
        Self { job, instance: instance.to_owned(), info: info(rest), newest: None }
    }
}

/// What tells one resource from another for longer than a process lives: the rest would make a new
/// series of `target_info` at every start.
fn info<'a>(attributes: impl Iterator<Item = &'a Attribute<'a>>) -> Vec<(String, String)> {
    let mut size = 0;
    let mut labels: Vec<(String, String)> = Vec::new();
    for (name, value) in attributes {
        let Some(value) = value.as_deref() else { continue };
        let label = label_name(name);
        let is_passing = name.starts_with("process.") || value.is_empty() || label.is_empty();
        let is_taken = label.starts_with("__")
            || ["job", "instance"].contains(&label.as_str())
            || labels.iter().any(|(held, _)| *held == label);
        let len = label.len() + value.len() + 4;
        let is_long = label.len().max(value.len()) > INFO_VALUE_LIMIT
            || size + len > INFO_SIZE_LIMIT
            || labels.len() == INFO_LABEL_LIMIT;
        if !(is_passing || is_taken || is_long) {
            size += len;
            labels.push((label, value.to_owned()));
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: &[(&str, &str)], (job, instance): (&str, &str), info: &[(&str, &str)]) {
        let attributes: Vec<Attribute<'_>> =
            attributes.iter().map(|(n, v)| ((*n).into(), Some((*v).into()))).collect();
        let found = Resource::of(&attributes);
        assert_eq!((found.job.as_str(), found.instance.as_str()), (job, instance));
        let labels: Vec<_> = found.info.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(labels, info);
    }

    #[test]
    fn the_service_and_its_instance_name_the_instance() {
        let (name, space) = (("service.name", "api"), ("service.namespace", "shop"));
        let (id, host) = (("service.instance.id", "7"), ("host.name", "web-1"));
        check(&[name, space, id, host], ("shop/api", "7"), &[("host_name", "web-1")]);
        check(&[name, host], ("api", "web-1"), &[]);
        check(&[space, id], ("", "7"), &[]);
        check(&[], ("", ""), &[]);
    }

    #[test]
    fn only_what_lasts_and_is_short_is_told() {
        let long = "x".repeat(INFO_VALUE_LIMIT + 1);
        check(
            &[
                ("process.pid", "17"),
                ("os.type", "linux"),
                ("os_type", "twice"),
                ("story", &long),
                ("__name__", "up"),
                ("job", "mine"),
            ],
            ("", ""),
            &[("os_type", "linux")],
        );
    }
}
