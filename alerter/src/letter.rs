//! A letter: what a person reads about one transition, as a subject, plain text and HTML.

use std::fmt::Write;

use rrd::Timestamp;

use crate::transition::{Reason, State, Transition};

/// Longest text taken from labels or rules into one line, in letters: mail headers are not books.
const LINE_LETTERS: usize = 400;

/// One transition made readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// State first, on one line without control characters.
    pub(crate) subject: String,
    /// The plain text.
    pub(crate) text: String,
    /// The same as a page, styled within, without anything loaded from elsewhere.
    pub(crate) html: String,
}

impl Letter {
    /// The letter about `transition`; links start with `base_url` when the server knows its own.
    pub(crate) fn about(transition: &Transition, base_url: Option<&str>) -> Self {
        let subject = one_line(&transition.title());
        let link = base_url.map(|base| alert_link(base, transition));
        let rows = table_rows(transition);
        Self {
            text: plain(transition, &subject, &rows, link.as_deref()),
            html: page(transition, &subject, &rows, link.as_deref()),
            subject,
        }
    }
}

/// Where the alert is shown.
pub(crate) fn alert_link(base_url: &str, transition: &Transition) -> String {
    format!("{}/alerts#{}", base_url.trim_end_matches('/'), transition.incident)
}

/// A value as a person reads it: three significant digits and the unit; bytes in powers of 1024.
pub(crate) fn reading_text(value: Option<f64>, unit: &str) -> String {
    match (value, unit) {
        (None, _) => "no data".to_owned(),
        (Some(value), "") => rounded(value),
        (Some(value), "bytes") => bytes_text(value),
        (Some(value), unit) => format!("{} {unit}", rounded(value)),
    }
}

fn rounded(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m >= 99.95 || m == 0.0 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.01 => 2,
        _ => return format!("{value:.2e}"),
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

fn bytes_text(value: f64) -> String {
    let mut scaled = value;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if scaled.abs() < 1023.5 {
            return format!("{} {unit}", rounded(scaled));
        }
        scaled /= 1024.0;
    }
    format!("{} PiB", rounded(scaled))
}

/// `template` with `{value}`, `{threshold}` and `{label}` filled in; unknown names stay as written.
pub(crate) fn fill(template: &str, transition: &Transition) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            rest = after;
            filled.push('{');
            continue;
        };
        match (name, transition.labels.get(name)) {
            ("value", _) => filled.push_str(&transition.reading()),
            ("threshold", _) => filled.push_str(&transition.threshold),
            ("state", _) => filled.push_str(&transition.to.to_string()),
            (_, Some(label)) => filled.push_str(label),
            (_, None) => filled.extend(["{", name, "}"]),
        }
        rest = tail;
    }
    filled.push_str(rest);
    one_line(&filled)
}

/// One line: control characters become spaces, and what is too long is cut.
pub(crate) fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c });
    let mut line: String = clean.take(LINE_LETTERS).collect();
    if text.chars().nth(LINE_LETTERS).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

/// Control characters, and the marks that turn the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A moment as people and programs read it: `2026-01-01T00:05:00Z`.
pub(crate) fn moment_text(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(moment) => moment.to_string(),
        Err(_) => at.to_string(),
    }
}

fn table_rows(transition: &Transition) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("State", format!("{} (was {})", transition.to, transition.from)),
        ("Instance", transition.subject()),
        ("Rule", transition.rule.clone()),
        ("Value", transition.reading()),
    ];
    match transition.to {
        State::Ok if transition.reason == Reason::Threshold => {
            rows.push(("Cleared at", transition.threshold.clone()));
        }
        State::Warning | State::Critical => rows.push(("Threshold", transition.threshold.clone())),
        State::Ok | State::Unknown => {}
    }
    if transition.reason != Reason::Threshold {
        rows.push(("Reason", reason_text(transition.reason).to_owned()));
    }
    rows.push(("Since", moment_text(transition.since)));
    rows.push(("Judged at", moment_text(transition.at)));
    let labels = transition.labels.filtered(|name| name != "instance" && name != rrd::NAME);
    for (name, value) in labels.iter() {
        rows.push(("Label", format!("{name} = {value}")));
    }
    for (_, text) in &mut rows {
        *text = one_line(text);
    }
    rows
}

fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Threshold => "a threshold was passed",
        Reason::NoData => "data stopped coming",
        Reason::RuleRemoved => "the rule was removed; this is not a recovery",
        Reason::Forgotten => "the series stayed away; this is not a recovery",
        Reason::Withdrawn => "the instance was withdrawn; this is not a recovery",
    }
}

/// The rule's own sentence, which tells what is wrong and so is not said when nothing is.
fn complaint(transition: &Transition) -> Option<String> {
    let is_wrong = transition.to != State::Ok && !transition.summary.is_empty();
    is_wrong.then(|| one_line(&transition.summary))
}

fn plain(
    transition: &Transition,
    subject: &str,
    rows: &[(&str, String)],
    link: Option<&str>,
) -> String {
    let mut text = format!("{subject}\n\n");
    if let Some(summary) = complaint(transition) {
        text.extend([summary.as_str(), "\n\n"]);
    }
    for (name, value) in rows {
        writeln!(text, "{name:<10} {value}").expect("a string takes all");
    }
    if let Some(link) = link {
        write!(text, "\n{link}\n").expect("a string takes all");
    }
    write!(text, "\n-- \nRoundel, {}\n", transition.incident).expect("a string takes all");
    text
}

/// Colours of a state: its banner, and the text on it. Dark enough for white letters (WCAG AA).
fn colour(state: State) -> &'static str {
    match state {
        State::Ok => "#1a7f4b",
        State::Unknown => "#5b6472",
        State::Warning => "#9a5b00",
        State::Critical => "#b3261e",
    }
}

fn page(
    transition: &Transition,
    subject: &str,
    rows: &[(&str, String)],
    link: Option<&str>,
) -> String {
    let banner = colour(transition.to);
    let font = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light\"><title>{title}</title></head>\n\
         <body style=\"margin:0;padding:24px 12px;background:#eef1f5;{font};color:#1c2430\">\n\
         <table role=\"presentation\" cellpadding=\"0\" cellspacing=\"0\" align=\"center\" \
         style=\"width:100%;max-width:560px;background:#ffffff;border:1px solid #d7dde5;\
         border-collapse:collapse\">\n\
         <tr><td style=\"background:{banner};color:#ffffff;padding:18px 24px\">\
         <div style=\"font-size:12px;letter-spacing:1px;font-weight:600\">{state}</div>\
         <div style=\"font-size:20px;line-height:28px;font-weight:600\">{who}: {rule}</div>\
         <div style=\"font-size:28px;line-height:36px;font-weight:700\">{reading}</div></td></tr>\n",
        title = escaped(subject),
        state = transition.to,
        who = escaped(&one_line(&transition.subject())),
        rule = escaped(&one_line(&transition.rule)),
        reading = escaped(&one_line(&transition.reading())),
    );
    if let Some(summary) = complaint(transition) {
        let summary = escaped(&summary);
        writeln!(
            html,
            "<tr><td style=\"background:#ffffff;padding:16px 24px 0;font-size:15px;\
             line-height:22px\">{summary}</td></tr>"
        )
        .expect("a string takes all");
    }
    html.push_str(
        "<tr><td style=\"background:#ffffff;padding:16px 24px\">\
         <table cellpadding=\"0\" cellspacing=\"0\" \
         style=\"width:100%;border-collapse:collapse;font-size:14px;line-height:20px\">\n",
    );
    for (name, value) in rows {
        let value = escaped(value);
        writeln!(
            html,
            "<tr><th align=\"left\" style=\"padding:6px 12px 6px 0;width:90px;font-weight:400;\
             color:#5b6472;border-bottom:1px solid #eef1f5;vertical-align:top\">{name}</th>\
             <td style=\"padding:6px 0;border-bottom:1px solid #eef1f5;word-break:break-word\">\
             {value}</td></tr>"
        )
        .expect("a string takes all");
    }
    html.push_str("</table></td></tr>\n");
    if let Some(link) = link {
        let link = escaped(link);
        writeln!(
            html,
            "<tr><td style=\"background:#ffffff;padding:4px 24px 20px\"><a href=\"{link}\" \
             style=\"display:inline-block;background:#1f5fbf;color:#ffffff;padding:10px 18px;\
             text-decoration:none;font-size:14px;font-weight:600\">Open the alert</a></td></tr>"
        )
        .expect("a string takes all");
    }
    writeln!(
        html,
        "<tr><td style=\"background:#f6f8fa;padding:12px 24px;font-size:12px;line-height:18px;\
         color:#5b6472\">Sent by Roundel &middot; {}</td></tr>\n</table>\n</body></html>",
        transition.incident
    )
    .expect("a string takes all");
    html
}

/// Text made harmless within HTML and its quoted attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}
