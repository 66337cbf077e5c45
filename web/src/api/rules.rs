//! `/api/v1/rules` and `/api/v1/alerts`: the alerter's state in Prometheus' shape.
//!
//! A rule with two levels is one alerting rule; the level an alert is on stands in its label
//! `severity`.

use axum::extract::State;
use axum::response::Response;
use rrd::{Labels, Timestamp};

use super::json;
use super::request::{BadParam, Params, bad};
use crate::views::{Level, RuleAlert, RuleView, Web};

/// The alerts that are open.
pub(crate) async fn alerts(State(web): State<Web>) -> Response {
    let rules = web.alerts.rules();
    let all = rules.iter().flat_map(|rule| rule.alerts.iter().map(move |alert| (rule, alert)));
    let mut data = String::from("{\"alerts\":");
    json::list(&mut data, all, |out, (rule, alert)| write_alert(out, rule, alert));
    data.push('}');
    json::success(&data)
}

/// `type`, `rule_name[]`, `rule_group[]`, `file[]`, `exclude_alerts`
pub(crate) async fn rules(State(web): State<Web>, params: Params) -> Response {
    let choice = match Choice::of(&params) {
        Ok(choice) => choice,
        Err(bad) => return bad.into(),
    };
    let mut rules = web.alerts.rules();
    rules.retain(|rule| choice.takes(rule));
    let groups = rules.chunk_by(|a, b| a.file == b.file);
    let mut data = String::from("{\"groups\":");
    json::list(&mut data, groups, |out, group| write_group(out, group, choice.with_alerts));
    data.push('}');
    json::success(&data)
}

/// Which rules are asked for, and whether with their alerts.
struct Choice<'a> {
    alerting: bool,
    names: Vec<&'a str>,
    groups: Vec<&'a str>,
    files: Vec<&'a str>,
    with_alerts: bool,
}

impl<'a> Choice<'a> {
    fn of(params: &'a Params) -> Result<Self, BadParam> {
        let alerting = match params.get("type") {
            None | Some("alert") => true,
            Some("record") => false, // There are no recording rules here.
            Some(other) => return Err(bad("type", &format!("not supported value {other:?}"))),
        };
        let with_alerts = match params.get("exclude_alerts") {
            None | Some("false") => true,
            Some("true") => false,
            Some(_) => return Err(bad("exclude_alerts", "either `true` or `false`")),
        };
        let all = |name| params.all(name).collect();
        let (names, groups, files) = (all("rule_name[]"), all("rule_group[]"), all("file[]"));
        Ok(Self { alerting, names, groups, files, with_alerts })
    }

    fn takes(&self, rule: &RuleView) -> bool {
        let among = |chosen: &[&str], name: &str| chosen.is_empty() || chosen.contains(&name);
        self.alerting
            && among(&self.names, &rule.name)
            && among(&self.groups, group_name(&rule.file))
            && among(&self.files, &rule.file)
    }
}

/// The rules of a file are a group, named like the file.
fn group_name(file: &str) -> &str {
    file.strip_suffix(".toml").unwrap_or(file)
}

fn write_group(out: &mut String, rules: &[RuleView], with_alerts: bool) {
    let Some(first) = rules.first() else { return };
    let every_ms = rules.iter().map(|rule| rule.every_ms).min().unwrap_or(0);
    let evaluated = rules.iter().filter_map(|rule| rule.evaluated).max();
    out.push_str("{\"name\":");
    json::text(out, group_name(&first.file));
    out.push_str(",\"file\":");
    json::text(out, &first.file);
    out.push_str(",\"rules\":");
    json::list(out, rules, |out, rule| write_rule(out, rule, with_alerts));
    out.push_str(",\"interval\":");
    json::number(out, seconds(every_ms));
    out.push_str(",\"limit\":0,\"evaluationTime\":0,\"lastEvaluation\":");
    write_moment(out, evaluated);
    out.push('}');
}

fn write_rule(out: &mut String, rule: &RuleView, with_alerts: bool) {
    let state = if rule.alerts.is_empty() { "inactive" } else { "firing" };
    let annotations = labels_of([("summary", rule.summary.as_str())]);
    out.push_str("{\"state\":");
    json::text(out, state);
    out.push_str(",\"name\":");
    json::text(out, &rule.name);
    out.push_str(",\"query\":");
    json::text(out, &rule.query);
    out.push_str(",\"duration\":");
    json::number(out, seconds(rule.for_ms));
    out.push_str(",\"keepFiringFor\":0,\"labels\":");
    json::labels(out, &rule.labels);
    out.push_str(",\"annotations\":");
    json::labels(out, &annotations);
    if with_alerts {
        out.push_str(",\"alerts\":");
        json::list(out, &rule.alerts, |out, alert| write_alert(out, rule, alert));
    }
    let health = match (&rule.problem, rule.evaluated) {
        (Some(_), _) => "err",
        (None, Some(_)) => "ok",
        (None, None) => "unknown",
    };
    out.push_str(",\"health\":");
    json::text(out, health);
    if let Some(problem) = &rule.problem {
        out.push_str(",\"lastError\":");
        json::text(out, problem);
    }
    out.push_str(",\"evaluationTime\":0,\"lastEvaluation\":");
    write_moment(out, rule.evaluated);
    out.push_str(",\"type\":\"alerting\"}");
}

fn write_alert(out: &mut String, rule: &RuleView, alert: &RuleAlert) {
    let severity = match alert.level {
        Level::Ok => "ok",
        Level::Unknown => "unknown",
        Level::Warning => "warning",
        Level::Critical => "critical",
    };
    let labels = alert.labels.with("alertname", &rule.name).with("severity", severity);
    let annotations = labels_of([
        ("summary", alert.summary.as_str()),
        ("value", &alert.reading),
        ("threshold", &alert.threshold),
    ]);
    out.push_str("{\"labels\":");
    json::labels(out, &labels);
    out.push_str(",\"annotations\":");
    json::labels(out, &annotations);
    out.push_str(",\"state\":\"firing\",\"activeAt\":");
    write_moment(out, Some(alert.opened));
    out.push_str(",\"value\":\"");
    json::exponent(out, alert.value.unwrap_or(f64::NAN));
    out.push_str("\"}");
}

fn labels_of<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    Labels::from_pairs(pairs).expect("names that differ and are not empty")
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

/// RFC 3339; what never was is Go's first moment.
fn write_moment(out: &mut String, at: Option<Timestamp>) {
    let moment = at.and_then(|at| jiff::Timestamp::from_millisecond(at.as_millis()).ok());
    let text =
        moment.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |moment| moment.to_string());
    json::text(out, &text);
}
