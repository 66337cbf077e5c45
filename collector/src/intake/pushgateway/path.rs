//! The path of a push: `job/J{/L/V}` behind `/metrics/`, its values escaped or in base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::intake::Denial;
use crate::limits::{LABEL_COUNT_LIMIT, LABEL_NAME_LIMIT, LABEL_VALUE_LIMIT};

/// What ends a name whose value is in base64.
const IN_BASE64: &str = "@base64";

/// The labels that a path names, sorted, `job` among them. An empty value stands for a label that the
/// pushed series shall not have.
pub(super) fn labels(path: &str) -> Result<Vec<(String, String)>, Denial> {
    let path = path.strip_prefix("/metrics/").unwrap_or(path);
    let mut segments: Vec<&str> = path.split('/').collect();
    if segments.len() % 2 == 1 && segments.last() == Some(&"") {
        segments.pop();
    }
    if segments.len() % 2 == 1 || segments.len() > LABEL_COUNT_LIMIT {
        return Err(Denial::bad(
            "the address names pairs of labels and values: /metrics/job/JOB{/LABEL/VALUE}",
        ));
    }
    let mut labels = Vec::with_capacity(segments.len() / 2);
    for pair in segments.chunks_exact(2) {
        labels.push(label(pair[0], pair[1])?);
    }
    let is_named =
        matches!(labels.first(), Some((name, value)) if name == "job" && !value.is_empty());
    if !is_named {
        return Err(Denial::bad("the address begins with the job: /metrics/job/JOB"));
    }
    labels.sort();
    if let Some(twice) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Denial::bad(format!("the address names label {} twice", twice[0].0)));
    }
    Ok(labels)
}

fn label(name: &str, value: &str) -> Result<(String, String), Denial> {
    let (name, value) = match name.strip_suffix(IN_BASE64) {
        Some(name) => (name, decoded(value)),
        None => (name, unescaped(value)),
    };
    let name = unescaped(name).unwrap_or_default();
    let is_start = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    let is_plain = name.starts_with(is_start)
        && name.chars().all(|letter| is_start(letter) || letter.is_ascii_digit())
        && !name.starts_with("__");
    if !is_plain || name.len() > LABEL_NAME_LIMIT {
        let shown: String = name.chars().take(40).collect();
        return Err(Denial::bad(format!("{shown:?} is no name of a label; rename it")));
    }
    match value {
        Some(value) if value.len() <= LABEL_VALUE_LIMIT => Ok((name, value)),
        Some(_) => Err(Denial::bad(format!("the value of label {name} is too long; shorten it"))),
        None => Err(Denial::bad(format!(
            "the value of label {name} cannot be read; escape it, or write {name}@base64/BASE64"
        ))),
    }
}

/// A value in base64; a lone `=` stands for an empty one, which no segment could be.
fn decoded(text: &str) -> Option<String> {
    // With its padding or without.
    let bytes = URL_SAFE_NO_PAD.decode(unescaped(text)?.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok()
}

/// A segment with its `%XX` resolved; `None` when it is not UTF-8 then.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let code = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_group_is_read() {
        for (path, expected) in [
            ("/metrics/job/backup", &[("job", "backup")][..]),
            ("/metrics/job/backup/", &[("job", "backup")]),
            ("/metrics/job/a/instance/b", &[("instance", "b"), ("job", "a")]),
            ("/metrics/job/a/path/%2Fvar%2Ftmp", &[("job", "a"), ("path", "/var/tmp")]),
            ("/metrics/job/a/path@base64/L3Zhci90bXA", &[("job", "a"), ("path", "/var/tmp")]),
            ("/metrics/job/a/path@base64/L3Zhci90bXA=", &[("job", "a"), ("path", "/var/tmp")]),
            ("/metrics/job/a/path@base64/L3Zhci90bXA%3D", &[("job", "a"), ("path", "/var/tmp")]),
            ("/metrics/job@base64/ZGlyZWN0b3J5", &[("job", "directory")]),
            ("/metrics/job/a/x@base64/=", &[("job", "a"), ("x", "")]),
            ("/metrics/job/a/x@base64/8J-Zgg", &[("job", "a"), ("x", "🙂")]),
            ("/metrics/job/a%20b", &[("job", "a b")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(labels(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_names_no_group_is_refused() {
        let long = format!("/metrics/job/{}", "x".repeat(LABEL_VALUE_LIMIT + 1));
        for path in [
            "/metrics/job",
            "/metrics/job/",
            "/metrics/instance/a/job/b",
            "/metrics/job/a/b",
            "/metrics/job/a/b/c/d",
            "/metrics/job/a/1b/c",
            "/metrics/job/a/__b/c",
            "/metrics/job/a//c",
            "/metrics/job/a/b/c/b/d",
            "/metrics/job/a/job/b",
            "/metrics/job/a/b@base64/!",
            "/metrics/job/a/b/%f",
            "/metrics/job/a/b/%ff",
            "/metrics/job@base64/=",
            long.as_str(),
        ] {
            assert_eq!(labels(path).map_err(|denial| denial.status().as_u16()), Err(400), "{path}");
        }
    }
}
