//! Parameters of the API: from the address and from a form, checked one by one.

use std::time::Duration;

use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use rrd::time::parse_duration_ms;
use rrd::{Step, Timestamp};

use super::problem;

/// A query's text is at most 16 KiB; the rest of a form is names and numbers.
pub(crate) const LONGEST_FORM: usize = 64 * 1024;

/// "The beginning" and "the end of time" as Go writes them, which some clients send.
const EARLIEST: &str = "-292273086-05-16T16:47:06Z";
const LATEST: &str = "292277025-08-18T07:12:54.999999999Z";

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

    /// The text of the query, which must be there.
    pub(crate) fn query(&self) -> Result<&str, BadParam> {
        self.get("query")
            .ok_or_else(|| bad("query", "1:1: parse error: no expression found in input"))
    }

    /// A moment: seconds since 1970 or RFC 3339.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<Timestamp>, BadParam> {
        self.get(name).map(|text| moment(name, text)).transpose()
    }

    /// A moment that must be there.
    pub(crate) fn need_moment(&self, name: &str) -> Result<Timestamp, BadParam> {
        moment(name, self.get(name).unwrap_or_default())
    }

    /// A length of time in milliseconds: from seconds or a duration; 0 and less are 0.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, BadParam> {
        self.get(name).map(|text| duration(name, text)).transpose()
    }

    /// The step of a range, which must be there.
    pub(crate) fn step(&self) -> Result<Step, BadParam> {
        let asked = duration("step", self.get("step").unwrap_or_default())?;
        let millis = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            let reason = "zero or negative query resolution step widths are not accepted. \
                Try a positive integer";
            return Err(bad("step", reason));
        }
        Step::from_millis(millis).ok_or_else(|| bad("step", "longer than a century"))
    }

    /// A bound on the number of items; `None` when there is none, as with 0.
    pub(crate) fn limit(&self, name: &str) -> Result<Option<usize>, BadParam> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number: usize =
            text.parse().map_err(|_| BadParam(format!("{name} must be a number")))?;
        Ok((number > 0).then_some(number))
    }
}

fn moment(name: &str, text: &str) -> Result<Timestamp, BadParam> {
    parse_moment(text)
        .ok_or_else(|| bad(name, &format!("cannot parse {text:?} to a valid timestamp")))
}

fn duration(name: &str, text: &str) -> Result<Duration, BadParam> {
    let millis = parse_millis(text)
        .ok_or_else(|| bad(name, &format!("cannot parse {text:?} to a valid duration")))?;
    Ok(Duration::from_millis(millis))
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let refuse = |status, text: String| problem(status, "bad_data", &text);
        let Query(address) = Query::<Pairs>::try_from_uri(request.uri())
            .map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
        // As in Prometheus, a body of another type is no form, and the address alone counts.
        if request.method() != Method::POST || !is_form(request.headers()) {
            return Ok(Self(address));
        }
        let Form(mut all) = Form::<Pairs>::from_request(request, state).await.map_err(|error| {
            let status = match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            refuse(status, error.body_text())
        })?;
        all.extend(address);
        Ok(Self(all))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
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
    match text {
        EARLIEST => Some(Timestamp::MIN),
        LATEST => Some(Timestamp::MAX),
        _ => {
            let moment: jiff::Timestamp = text.parse().ok()?;
            Some(Timestamp::from_millis(moment.as_millisecond()))
        }
    }
}

/// Seconds with decimals, or a duration such as `5m`. What is less than nothing is nothing.
fn parse_millis(text: &str) -> Option<u64> {
    match text.parse::<f64>() {
        Ok(secs) => Some(u64::try_from(to_millis(secs)?).unwrap_or(0)),
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
            (EARLIEST, Some(Timestamp::MIN.as_millis())),
            (LATEST, Some(Timestamp::MAX.as_millis())),
            ("1e300", None),
            ("NaN", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_moment(text).map(Timestamp::as_millis), millis, "{text}");
        }
    }

    #[test]
    fn steps_are_seconds_or_durations_and_never_zero() {
        for (text, millis) in [("15", 15_000), ("0.5", 500), ("5m", 300_000)] {
            let step = params(&[("step", text)]).step().unwrap();
            assert_eq!(step.as_millis(), millis, "{text}");
        }
        for bad in ["0", "-1", "inf", "5 m", "1e30", ""] {
            assert!(params(&[("step", bad)]).step().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        let limit = |text| params(&[("limit", text)]).limit("limit");
        assert_eq!((limit(""), limit("0"), limit("7")), (Ok(None), Ok(None), Ok(Some(7))));
        assert_eq!(limit("-1"), Err(BadParam("limit must be a number".to_owned())));
    }
}
