//! Native frames: simulated agents that push what they read, a scrape at a time or a backlog.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use collector::native::{ENROLL_PATH, Entry, PUSH_CONTENT_TYPE, PUSH_PATH, Push, Reading};
use rrd::{Kind, Timestamp};

use super::sender::{Connection, Request, send};
use super::{CpuCost, POLICY, balanced, settle};
use crate::data::value;
use crate::meter::rate;
use crate::query::engine::Engine;

/// A machine with a database on it.
const SERIES_EACH: usize = 500;
/// Seconds between two readings of our agents.
const STEP_SECS: i64 = 10;
/// Pushes of one reading each, as an agent that keeps up sends them.
const SCRAPES: i64 = 40;
/// Readings of a push that carries a backlog: 20,000 samples, as many as a push may hold.
const BACKLOG_READINGS: i64 = 40;
const BACKLOG_PUSHES: i64 = 5;
/// What native frames came to.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) series: u64,
    /// A scrape a push.
    pub(crate) scrapes: CpuCost,
    /// A backlog.
    pub(crate) backlog: CpuCost,
}

pub(crate) fn measure(folder: &Path, agents: usize, end: Timestamp) -> Result<Native> {
    let engine = Engine::roundel_with(folder, &["--policy", POLICY])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut fleet = enrolled(&engine, agents)?;
    let last = 1 + SCRAPES + BACKLOG_READINGS * BACKLOG_PUSHES;
    let at = |step: i64| end.plus_millis((step - last) * STEP_SECS * 1000);
    let requests = |fleet: &mut [Agent], pushes: i64, first: i64, readings: i64| {
        let mut all = Vec::new();
        for push in 0..pushes {
            let steps = first + push * readings..first + (push + 1) * readings;
            let readings: Vec<_> = steps.map(|step| (step, at(step))).collect();
            all.extend(fleet.iter_mut().map(|agent| agent.push(&readings)));
        }
        all
    };
    send(engine.address(), &requests(&mut fleet, 1, 1, 1))?;
    settle(engine.process())?;
    let mut phase = |pushes: i64, first: i64, readings: i64| -> Result<CpuCost> {
        let requests = requests(&mut fleet, pushes, first, readings);
        let samples = requests.len() * SERIES_EACH * usize::try_from(readings)?;
        let before = engine.process().whole_processor_time()?;
        let sent = send(engine.address(), &requests)?;
        settle(engine.process())?;
        let used = engine.process().whole_processor_time()?.saturating_sub(before);
        Ok(CpuCost::of(samples as u64, used, rate(samples as u64, sent.time)))
    };
    let scrapes = phase(SCRAPES, 2, 1)?;
    let backlog = phase(BACKLOG_PUSHES, 2 + SCRAPES, BACKLOG_READINGS)?;
    let series = (agents * SERIES_EACH) as u64;
    let count = series * last.unsigned_abs();
    runtime.block_on(balanced(&engine, count))?;
    Ok(Native { series, scrapes, backlog })
}

/// One simulated agent.
struct Agent {
    number: usize,
    id: u128,
    credential: String,
    pushed: u64,
}

fn enrolled(engine: &Engine, agents: usize) -> Result<Vec<Agent>> {
    let mut connection = Connection::open(engine.address())?;
    let mut ask = |path: &str, token: &str, body: serde_json::Value| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        );
        let request = Request { head, body: body.to_string().into_bytes() };
        let (status, answer) = connection.send(&request)?;
        ensure!(status == 201 || status == 200, "{path} answered {status}: {answer}");
        Ok(serde_json::from_str::<serde_json::Value>(&answer)?)
    };
    let admin = engine.token().context("a server without a token")?;
    let minted = ask("/v1/tokens", admin, serde_json::json!({"kind": "join"}))?;
    let token = minted["token"].as_str().context("a token")?.to_owned();
    (0..agents)
        .map(|number| {
            let boot_id = format!("{:032x}", number + 1);
            let body = serde_json::json!({"name": format!("db-{number}"), "boot_id": boot_id});
            let answer = ask(ENROLL_PATH, &token, body)?;
            let text = |name: &str| answer[name].as_str().context("an enrolment without its parts");
            let id = u128::from_str_radix(text("id")?, 16)?;
            Ok(Agent { number, id, credential: text("credential")?.to_owned(), pushed: 0 })
        })
        .collect()
}

impl Agent {
    /// The next push, with the readings of these steps; the first one says what they are of.
    fn push(&mut self, steps: &[(i64, Timestamp)]) -> Request {
        let dictionary = if self.pushed == 0 { dictionary() } else { Vec::new() };
        self.pushed += 1;
        let ids = 0..u32::try_from(SERIES_EACH).unwrap_or(u32::MAX);
        let read = |step: i64| {
            let value = |id: u32| (id, value(self.number * SERIES_EACH + id as usize, step));
            ids.clone().map(value).collect()
        };
        let readings = steps
            .iter()
            .map(|(step, at)| Reading { at_ms: at.as_millis(), values: read(*step) })
            .collect();
        let push = Push {
            instance: self.id,
            incarnation: 1,
            boot_id: self.number as u128 + 1,
            number: self.pushed,
            floor: self.pushed,
            sent_ms: steps.last().map_or(0, |(_, at)| at.as_millis()),
            dictionary,
            readings,
        };
        let credential = &self.credential;
        let head = format!(
            "POST {PUSH_PATH} HTTP/1.1\r\nAuthorization: Bearer {credential}\r\n\
             Content-Type: {PUSH_CONTENT_TYPE}\r\n"
        );
        Request { head, body: push.encode() }
    }
}

fn dictionary() -> Vec<Entry> {
    let entry = |number: usize| Entry {
        id: u32::try_from(number).unwrap_or(u32::MAX),
        kind: Kind::Gauge as u8,
        labels: vec![
            (rrd::NAME.to_owned(), format!("bench_metric_{:02}", number % 50)),
            ("device".to_owned(), format!("device-{}", number / 50)),
        ],
    };
    (0..SERIES_EACH).map(entry).collect()
}
