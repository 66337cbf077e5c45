//! Parameters of the API: from the address and from a form, checked one by one.

use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use rrd::time::parse_duration_ms;
use rrd::{Step, Timestamp};

use super::problem;

/// A query's text is at most 16 KiB; the rest of a form is names and numbers.
pub(crate) const LONGEST_FORM: usize = 64 * 1024;

type Pairs = Vec<(String, String)>;

/// Parameters in the order they came; names may repeat.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

/// A parameter that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadParam(pub(crate) String);

impl Params {
    /// The value of `name`; the form's before the address's, as Prometheus reads them.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(this, _)| this == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(this, _)| this == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, which must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&str, BadParam> {
        self.get(name).ok_or_else(|| bad(name, "it is missing"))
    }

    /// A moment: seconds since 1970 or RFC 3339.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<Timestamp>, BadParam> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_moment(text)
            .map(Some)
            .ok_or_else(|| bad(name, &format!("cannot parse {text:?} to a valid timestamp")))
    }

    /// A length of time: seconds or a duration.
    pub(crate) fn step(&self, name: &str) -> Result<Option<Step>, BadParam> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let millis = parse_millis(text)
            .ok_or_else(|| bad(name, &format!("cannot parse {text:?} to a valid duration")))?;
        let step = Step::from_millis(millis).ok_or_else(|| {
            bad(
                name,
                "zero or negative or over a century is not accepted; give a positive duration",
            )
        })?;
        Ok(Some(step))
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let refuse = |status, text: String| problem(status, "bad_data", &text);
        let Query(address) = Query::<Pairs>::try_from_uri(request.uri())
            .map_err(|error| refuse(error.status(), error.body_text()))?;
        if request.method() != Method::POST {
            return Ok(Self(address));
        }
        let Form(mut all) = Form::<Pairs>::from_request(request, state)
            .await
            .map_err(|error| refuse(error.status(), error.body_text()))?;
        all.extend(address);
        Ok(Self(all))
    }
}

pub(crate) fn bad(name: &str, reason: &str) -> BadParam {
    BadParam(format!("invalid parameter {name:?}: {reason}"))
}

impl From<BadParam> for Response {
    fn from(bad: BadParam) -> Self {
        problem(StatusCode::BAD_REQUEST, "bad_data", &bad.0)
    }
}

/// Seconds since 1970 with decimals, or RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Option<Timestamp> {
    if let Ok(secs) = text.parse::<f64>() {
        return to_millis(secs).map(Timestamp::from_millis);
    }
    let moment: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

/// Seconds with decimals, or a duration such as `5m`.
fn parse_millis(text: &str) -> Option<u64> {
    match text.parse::<f64>() {
        Ok(secs) => u64::try_from(to_millis(secs)?).ok(),
        Err(_) => parse_duration_ms(text),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be within a thousand centuries")]
fn to_millis(secs: f64) -> Option<i64> {
    let millis = (secs * 1000.0).round();
    (millis.abs() < 3.2e15).then_some(millis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn moments_are_seconds_or_rfc_3339() {
        for (text, millis) in [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-1", Some(-1000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781)),
            ("1e300", None),
            ("NaN", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse_moment(text).map(Timestamp::as_millis), millis, "{text}");
        }
    }

    #[test]
    fn steps_are_seconds_or_durations_and_never_zero() {
        for (text, millis) in [("15", Some(15_000)), ("0.5", Some(500)), ("5m", Some(300_000))] {
            let step = params(&[("step", text)]).step("step").unwrap();
            assert_eq!(step.map(Step::as_millis), millis, "{text}");
        }
        for bad in ["0", "-1", "inf", "5 m", "1e30"] {
            assert!(params(&[("step", bad)]).step("step").is_err(), "{bad}");
        }
    }
}
