//! A document: a successful answer that is written as it is sent, never as a whole.
//!
//! The first chunk is written where the query was evaluated, so that an answer of usual size is one
//! piece with its length. What is longer is written chunk by chunk as the client takes them, and
//! each series is let go when it is written.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use query::{ANSWER_POINTS, Answer, Line, Point, Resolution, Value};
use rrd::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{json, problem};

/// Bytes written at once: a day of minutes of one series is one chunk, and a chunk takes less than
/// a millisecond of the reactor.
const CHUNK: usize = 64 << 10;
/// What a point takes, about: a moment, and a number of few digits.
const BYTES_A_POINT: usize = 32;
/// Room beyond a full chunk, where the last piece of it usually ends.
const MOST_A_PIECE: usize = 512;
/// Points of all answers that are being sent: clients that take theirs slowly hold them in memory.
const POINTS_BEING_SENT: usize = 8_000_000;

const _: () = assert!(POINTS_BEING_SENT as u64 >= 4 * ANSWER_POINTS, "four at their largest");

static ROOM: Semaphore = Semaphore::const_new(POINTS_BEING_SENT);

/// A successful answer, written so far or not at all.
pub(crate) struct Document {
    written: String,
    rest: Rest,
    tail: String,
    is_first: bool,
}

/// What is not written yet.
enum Rest {
    Nothing,
    Items(IntoIter<String>),
    Points(IntoIter<Point>),
    Lines { lines: IntoIter<Line>, open: Option<IntoIter<(Timestamp, f64)>> },
}

/// What is said beside an answer.
#[derive(Default)]
pub(crate) struct Beside {
    /// The asked moment, which stands beside a string.
    pub(crate) at: Timestamp,
    pub(crate) warnings: Vec<String>,
    /// JSON of `stats`, when it was asked for.
    pub(crate) stats: Option<String>,
}

impl Document {
    /// The answer of a query; its first chunk is written.
    pub(crate) fn of_answer(answer: Answer, beside: &Beside) -> Self {
        let mut head = String::with_capacity(1024);
        head.push_str("{\"status\":\"success\",\"data\":{\"resultType\":\"");
        let rest = match answer.value {
            Value::Scalar { at, value } => {
                head.push_str("scalar\",\"result\":[");
                json::plain_moment(&mut head, at);
                head.push_str(",\"");
                json::plain_number(&mut head, value);
                head.push_str("\"]");
                Rest::Nothing
            }
            Value::Text(content) => {
                head.push_str("string\",\"result\":[");
                json::plain_moment(&mut head, beside.at);
                head.push(',');
                json::text(&mut head, &content);
                head.push(']');
                Rest::Nothing
            }
            Value::Vector(points) => {
                head.push_str("vector\",\"result\":[");
                Rest::Points(points.into_iter())
            }
            Value::Matrix(lines) => {
                head.push_str("matrix\",\"result\":[");
                Rest::Lines { lines: lines.into_iter(), open: None }
            }
        };
        let mut tail = String::new();
        if !matches!(rest, Rest::Nothing) {
            tail.push(']');
        }
        if let Some(stats) = &beside.stats {
            tail.push_str(",\"stats\":");
            tail.push_str(stats);
        }
        tail.push('}');
        Self::begin(head, rest, tail, &beside.warnings)
    }

    /// A list of items, each of them JSON already; its first chunk is written.
    pub(crate) fn of_items(items: Vec<String>, warnings: &[String]) -> Self {
        let head = String::from("{\"status\":\"success\",\"data\":[");
        Self::begin(head, Rest::Items(items.into_iter()), String::from("]"), warnings)
    }

    /// An object of members, each of them JSON already; its first chunk is written.
    pub(crate) fn of_members(members: Vec<String>) -> Self {
        let head = String::from("{\"status\":\"success\",\"data\":{");
        Self::begin(head, Rest::Items(members.into_iter()), String::from("}"), &[])
    }

    fn begin(written: String, rest: Rest, mut tail: String, warnings: &[String]) -> Self {
        if !warnings.is_empty() {
            tail.push_str(",\"warnings\":");
            json::list(&mut tail, warnings, |out, warning| json::text(out, warning));
        }
        tail.push('}');
        let mut document = Self { written, rest, tail, is_first: true };
        let expected = document.points().saturating_mul(BYTES_A_POINT);
        document.written.reserve(expected.min(CHUNK) + MOST_A_PIECE);
        document.write_on();
        document
    }

    /// Sends it: whole if it is written, else in chunks, if there is room.
    pub(crate) fn respond(self) -> Response {
        self.respond_in(&ROOM)
    }

    fn respond_in(self, room: &'static Semaphore) -> Response {
        if self.is_written() {
            return (StatusCode::OK, json::body(self.written)).into_response();
        }
        let places = u32::try_from(self.points()).unwrap_or(u32::MAX);
        match room.try_acquire_many(places) {
            Ok(place) => {
                let body = Body::new(Sending { document: self, _place: place });
                (StatusCode::OK, json::body(body)).into_response()
            }
            Err(_) => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too many large answers are being sent; try again, or ask for less",
            ),
        }
    }

    /// True when nothing is left to write.
    fn is_written(&self) -> bool {
        matches!(self.rest, Rest::Nothing) && self.tail.is_empty()
    }

    /// Points that are held until they are written; items count as one each.
    fn points(&self) -> usize {
        match &self.rest {
            Rest::Nothing => 0,
            Rest::Items(items) => items.len(),
            Rest::Points(points) => points.len(),
            Rest::Lines { lines, open } => {
                let open = open.as_ref().map_or(0, |points| points.as_slice().len());
                lines.as_slice().iter().map(|line| line.points.len()).sum::<usize>() + open
            }
        }
    }

    /// Writes until a chunk is full or all is written.
    fn write_on(&mut self) {
        while self.written.len() < CHUNK {
            if !self.write_piece() {
                self.rest = Rest::Nothing;
                self.written.push_str(&self.tail);
                self.tail.clear();
                return;
            }
        }
    }

    /// Writes the next item, or a part of a line that fills the chunk; false when there is none.
    fn write_piece(&mut self) -> bool {
        let out = &mut self.written;
        match &mut self.rest {
            Rest::Nothing => return false,
            Rest::Items(items) => {
                let Some(item) = items.next() else { return false };
                separate(out, &mut self.is_first);
                out.push_str(&item);
            }
            Rest::Points(points) => {
                let Some(point) = points.next() else { return false };
                separate(out, &mut self.is_first);
                out.push_str("{\"metric\":");
                json::labels(out, &point.labels);
                out.push_str(",\"value\":");
                json::pair(out, point.at, point.value);
                out.push('}');
            }
            Rest::Lines { lines, open: open @ None } => {
                let Some(line) = lines.next() else { return false };
                separate(out, &mut self.is_first);
                out.push_str("{\"metric\":");
                json::labels(out, &line.labels);
                out.push_str(",\"values\":[");
                *open = Some(line.points.into_iter());
                self.is_first = true;
            }
            Rest::Lines { open: open @ Some(_), .. } => {
                if write_points(out, open, &mut self.is_first) {
                    out.push_str("]}");
                    self.is_first = false;
                }
            }
        }
        true
    }
}

/// Writes points of the open line until the chunk is full; true when the line is done and closed.
fn write_points(
    out: &mut String,
    open: &mut Option<IntoIter<(Timestamp, f64)>>,
    is_first: &mut bool,
) -> bool {
    for (at, value) in open.iter_mut().flatten() {
        separate(out, is_first);
        json::pair(out, at, value);
        if out.len() >= CHUNK {
            return false;
        }
    }
    *open = None;
    true
}

/// A comma, but not before the first.
fn separate(out: &mut String, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
}

/// A document on its way, with the room it takes.
struct Sending {
    document: Document,
    _place: SemaphorePermit<'static>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let document = &mut self.document;
        if document.written.is_empty() {
            document.write_on();
        }
        let chunk = std::mem::take(&mut document.written);
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(Bytes::from(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.document.written.is_empty() && self.document.is_written()
    }
}

/// The row steps that answered, as a part of `stats`.
pub(crate) fn resolutions(out: &mut String, used: &[Resolution]) {
    json::list(out, used, |out, used| {
        let step = Timestamp::from_millis(used.step.as_millis().cast_signed());
        for (name, moment) in [("{\"step\":", step), (",\"first\":", used.first)] {
            out.push_str(name);
            json::plain_moment(out, moment);
        }
        write!(out, ",\"last\":{}}}", used.last.as_secs_f64()).expect("a string takes all");
    });
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use rrd::Labels;

    use super::*;

    fn answer_of(value: Value) -> Answer {
        Answer { value, warnings: Vec::new(), resolutions: Vec::new() }
    }

    async fn sent(response: Response) -> (StatusCode, String) {
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_four_shapes_are_those_of_prometheus() {
        let at = Timestamp::from_millis(1_435_781_451_781);
        let up = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
        for (value, json) in [
            (
                Value::Vector(vec![Point { labels: up.clone(), at, value: 1.0 }]),
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1435781451.781,"1"]}]}"#,
            ),
            (Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#),
            (
                Value::Matrix(vec![
                    Line { labels: up.clone(), points: vec![(at, 0.5), (at, f64::NAN)] },
                    Line { labels: up, points: vec![(at, 0.5)] },
                ]),
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a"},"values":[[1435781451.781,"0.5"],[1435781451.781,"NaN"]]},{"metric":{"__name__":"up","job":"a"},"values":[[1435781451.781,"0.5"]]}]}"#,
            ),
            (
                Value::Scalar { at: Timestamp::from_secs(5), value: f64::INFINITY },
                r#"{"resultType":"scalar","result":[5,"+Inf"]}"#,
            ),
            (Value::Text("a".into()), r#"{"resultType":"string","result":[0,"a"]}"#),
        ] {
            let document = Document::of_answer(answer_of(value), &Beside::default());
            let whole = format!("{{\"status\":\"success\",\"data\":{json}}}");
            assert_eq!(sent(document.respond()).await, (StatusCode::OK, whole));
        }
    }

    /// 100 series of 1,000 points: some two megabytes of JSON.
    fn long() -> Document {
        let line = |n: i32| Line {
            labels: Labels::from_pairs([("n", n.to_string())]).unwrap(),
            points: (0..1000).map(|t| (Timestamp::from_secs(t), f64::from(n) + 0.25)).collect(),
        };
        let (warnings, stats) = (vec!["a <b>".to_owned()], Some("{}".to_owned()));
        let beside = Beside { warnings, stats, ..Beside::default() };
        Document::of_answer(answer_of(Value::Matrix((0..100).map(line).collect())), &beside)
    }

    #[tokio::test]
    async fn a_long_answer_comes_in_chunks_and_is_whole() {
        let (mut chunks, mut text) = (0, Vec::new());
        let mut body = long().respond().into_body();
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() < CHUNK + 1024, "{}", data.len());
            text.extend_from_slice(&data);
            chunks += 1;
        }
        assert!(chunks > 20, "{chunks}");
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let lines = json["data"]["result"].as_array().unwrap();
        assert_eq!((lines.len(), lines[99]["values"].as_array().unwrap().len()), (100, 1000));
        assert_eq!(lines[99]["values"][999], serde_json::json!([999, "99.25"]));
        assert_eq!(
            (&json["warnings"][0], &json["data"]["stats"]),
            (&"a <b>".into(), &serde_json::json!({}))
        );
    }

    #[tokio::test]
    async fn clients_that_do_not_take_their_answers_leave_room_for_a_few_only() {
        let room: &'static Semaphore = Box::leak(Box::new(Semaphore::new(250_000)));
        let held: Vec<Response> = (0..2).map(|_| long().respond_in(room)).collect();
        let (status, text) = sent(long().respond_in(room)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("\"errorType\":\"unavailable\""), "{text}");
        drop(held);
        assert_eq!(sent(long().respond_in(room)).await.0, StatusCode::OK);
    }
}
