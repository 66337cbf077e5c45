//! A hundred people look at dashboards while samples go on coming in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use rrd::Clock as _;
use tokio::task::JoinSet;

use super::client::Client;
use super::data::{self, INSTANCES, host};
use super::engine::{Engine, Range};
use crate::meter::Wall;

const PEOPLE: usize = 100;
/// Requests whose times are looked at, and the time between their beginnings.
const WRITES: i64 = 500;
const PACE: Duration = Duration::from_millis(20);
/// Instances that one request brings a reading of each series of.
const INSTANCES_EACH: usize = 100;

/// What became of the intake.
pub(crate) struct Intake {
    pub(crate) idle: Duration,
    pub(crate) beside: Duration,
    /// Dashboards that were loaded meanwhile.
    pub(crate) loads: u64,
}

/// The 99th percentile of a write's time, alone and beside dashboards.
pub(crate) async fn measure(engine: &Arc<Engine>, end_secs: i64) -> Result<Intake> {
    let (mut writer, wall) = (engine.connect().await?, Wall::start());
    let idle = writes(&mut writer, &wall, 0).await?;
    let (stop, loads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut people = JoinSet::new();
    for person in 0..PEOPLE {
        let (engine, stop, loads) = (Arc::clone(engine), Arc::clone(&stop), Arc::clone(&loads));
        people.spawn(async move {
            let mut client = engine.connect().await?;
            while !stop.load(Ordering::Acquire) {
                for path in panels(&engine, person * INSTANCES / PEOPLE, end_secs) {
                    client.get(&path).await?;
                }
                loads.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let beside = writes(&mut writer, &wall, WRITES).await;
    stop.store(true, Ordering::Release);
    while let Some(person) = people.join_next().await {
        person??;
    }
    Ok(Intake { idle, beside: beside?, loads: loads.load(Ordering::Relaxed) })
}

/// Ten panels: eight of one instance, two of the fleet; six hours of minutes.
fn panels(engine: &Engine, instance: usize, end: i64) -> Vec<String> {
    let host = host(instance);
    let hours = Range { start: end - 6 * 3600, end, step_secs: 60 };
    let of_host = (0..8).map(|metric| format!("bench_gauge_{metric}{{instance=\"{host}\"}}"));
    let mut panels: Vec<_> = of_host.map(|text| engine.range(&text, &hours)).collect();
    let hours = Range { step_secs: 300, ..hours };
    panels.push(engine.range("avg by (region) (bench_gauge_0)", &hours));
    panels.push(engine.range("topk(10, bench_gauge_1)", &hours));
    panels
}

/// The 99th percentile of the times of writes that begin at an even pace.
async fn writes(writer: &mut Client, wall: &Wall, first: i64) -> Result<Duration> {
    let mut times = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for step in first..first + WRITES {
        let groups = INSTANCES / INSTANCES_EACH;
        let start = usize::try_from(step)? % groups * INSTANCES_EACH;
        let body = data::live(start..start + INSTANCES_EACH, wall.wall(), step);
        pace.tick().await;
        let before = wall.elapsed();
        writer.write(&body).await?;
        times.push(wall.elapsed().saturating_sub(before));
    }
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100])
}
