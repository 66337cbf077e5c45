//! A steady push: senders that number their readings by time, send again what was not acknowledged, and
//! know afterwards what must be there.

use std::collections::BTreeMap;
use std::time::Duration;

use fixtures::remote_write::Series;

use crate::http;
use crate::server::eventually;

/// How many series each sender pushes in every request.
pub(crate) const SERIES: usize = 20;
/// Steps of a second, so that a push faster than time has an hour of moments to use.
pub(crate) const POLICY: &str = "1s:1h,1m:1d";
/// The width of a step.
const STEP_MS: i64 = 1000;
/// Moments from the past on, so that nothing is refused as future and the ring of an hour holds all.
const MOMENTS: i64 = 3300;

/// (series, END) to value.
pub(crate) type Stored = BTreeMap<(usize, i64), f64>;

/// One sender: an instance that pushes one reading a series and moment.
#[derive(Clone)]
pub(crate) struct Sender {
    number: usize,
    from_ms: i64,
    /// The moment that is to be sent next; all before it are acknowledged.
    next_ms: i64,
}

impl Sender {
    pub(crate) fn new(number: usize) -> Self {
        let now_ms = i64::try_from(now_secs()).unwrap() * 1000;
        let from_ms = now_ms - MOMENTS * STEP_MS;
        Self { number, from_ms, next_ms: from_ms }
    }

    /// How many samples are acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        usize::try_from((self.next_ms - self.from_ms) / STEP_MS).unwrap() * SERIES
    }

    /// The readings of the next moment.
    pub(crate) fn request(&self) -> Vec<Series> {
        let instance = format!("i{}", self.number);
        (0..SERIES)
            .map(|n| {
                let labels = [
                    ("__name__", "steady"),
                    ("job", "crash"),
                    ("instance", &instance),
                    ("n", &n.to_string()),
                ];
                Series::new(&labels).reading(self.next_ms, self.value(n, self.next_ms))
            })
            .collect()
    }

    /// The reading of a series at a moment; whole, so that f32 keeps it.
    fn value(&self, series: usize, at_ms: i64) -> f64 {
        let number = i64::try_from(series + 100 * self.number).unwrap();
        let mixed = (at_ms / STEP_MS).wrapping_mul(31) + number * 17;
        f64::from(i32::try_from(mixed.rem_euclid(100_000)).unwrap())
    }

    /// Sends one moment; false when the server is gone or takes nothing any more.
    pub(crate) async fn push(&mut self, url: &str) -> bool {
        let answer = http::remote_write(url, &self.request()).await;
        let is_taken = answer.is_some_and(|answer| {
            let is_taken = answer.status.is_success();
            assert!(is_taken || answer.status.is_server_error(), "{}", answer.text());
            is_taken
        });
        if is_taken {
            self.next_ms += STEP_MS;
        }
        is_taken
    }

    /// Sends until the server is gone, takes nothing any more, or the moments are used up.
    pub(crate) async fn push_until_gone(&mut self, url: &str) {
        while self.has_more() && self.push(url).await {}
    }

    /// False when the moments are used up.
    pub(crate) const fn has_more(&self) -> bool {
        self.next_ms < self.from_ms + MOMENTS * STEP_MS
    }

    /// Sends from the beginning what it has sent already, to another server.
    pub(crate) async fn send_again(self, url: String) {
        let mut again = Self { next_ms: self.from_ms, ..self };
        while again.next_ms < self.next_ms {
            assert!(again.push(&url).await, "a server without faults takes everything");
        }
    }

    /// What must be there.
    pub(crate) fn expected(&self) -> Stored {
        let moments = (self.from_ms..self.next_ms).step_by(usize::try_from(STEP_MS).unwrap());
        let all = moments.flat_map(|at| (0..SERIES).map(move |n| (n, at)));
        all.map(|(n, at)| ((n, at), self.value(n, at))).collect()
    }

    /// All that the server answers for this sender.
    pub(crate) async fn stored(&self, url: &str) -> Stored {
        if self.acknowledged() == 0 {
            return Stored::new();
        }
        let pairs = [
            ("query", format!("steady{{instance=\"i{}\"}}", self.number)),
            ("start", (self.from_ms / 1000).to_string()),
            ("end", ((self.next_ms - STEP_MS) / 1000).to_string()),
            ("step", (STEP_MS / 1000).to_string()),
        ];
        let answer =
            http::get(&format!("{url}/api/v1/query_range?{}", http::encoded(&pairs))).await;
        let json = answer.json();
        assert_eq!(json["status"], "success", "{json}");
        let mut found = Stored::new();
        for line in json["data"]["result"].as_array().unwrap() {
            let series = line["metric"]["n"].as_str().unwrap().parse().unwrap();
            for point in line["values"].as_array().unwrap() {
                #[expect(clippy::cast_possible_truncation, reason = "seconds of this century")]
                let at_ms = (point[0].as_f64().unwrap() * 1000.0) as i64;
                found.insert((series, at_ms), point[1].as_str().unwrap().parse().unwrap());
            }
        }
        found
    }

    /// Everything acknowledged is there with its value, at the latest when the worker has applied it.
    pub(crate) async fn check(&self, url: &str) {
        let expected = self.expected();
        let what = format!("all {} samples of sender {}", expected.len(), self.number);
        eventually(&what, Duration::from_secs(10), async || {
            let found = self.stored(url).await;
            expected.iter().all(|(key, value)| found.get(key) == Some(value)).then_some(())
        })
        .await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test drives the real program in real time")]
pub(crate) fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
