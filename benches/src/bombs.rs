//! How long the real server takes to refuse bodies that are small and want to be large: `cargo xtask bench
//! bombs`.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fixtures::bombs::{Bomb, bombs};

use crate::ingest::sender::{Connection, Request};
use crate::meter::{Wall, median};
use crate::query::engine::Engine;

/// Each is sent so often; an odd number has a middle.
pub(crate) const TIMES: usize = 11;
/// In which each is to be refused.
const GOAL: Duration = Duration::from_millis(50);

/// What one of them came to.
struct Refusal {
    /// The middle one and the longest, on the wall, from the first byte sent to the last one read.
    middle: Duration,
    longest: Duration,
    /// Processor time of the whole server, on average.
    processor: Duration,
    status: u16,
}

/// Sends each bomb so often, one after the other over one connection, and prints a line for each.
pub(crate) fn run(parent: &Path, times: usize) -> Result<()> {
    ensure!(times > 0, "a bomb is sent once at least");
    let scratch = tempfile::tempdir_in(parent).context("a folder for the data")?;
    let engine = Engine::roundel_with(scratch.path(), &[])?;
    let mut connection = Connection::open(engine.address())?;
    let out = &mut io::stdout().lock();
    writeln!(out, "load of the machine before: {}", load()?)?;
    writeln!(
        out,
        "{:<56}{:>9}{:>8}{:>10}{:>10}{:>10}",
        "what", "bytes", "status", "middle", "longest", "CPU"
    )?;
    let mut within = 0;
    let all = bombs();
    for bomb in &all {
        let refusal = measure(&engine, &mut connection, (bomb, times))?;
        within += usize::from(refusal.middle < GOAL);
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let Refusal { middle, longest, processor, status } = refusal;
        let (middle, longest, processor) = (ms(middle), ms(longest), ms(processor));
        let (name, len) = (bomb.name, bomb.body.len());
        writeln!(out, "{name:<56}{len:>9}{status:>8}{middle:>10}{longest:>10}{processor:>10}")?;
    }
    writeln!(out, "load of the machine after: {}", load()?)?;
    writeln!(
        out,
        "{within} of {} below {} ms in the middle of {times}",
        all.len(),
        GOAL.as_millis()
    )?;
    Ok(())
}

fn measure(
    engine: &Engine,
    connection: &mut Connection,
    (bomb, times): (&Bomb, usize),
) -> Result<Refusal> {
    let token = engine.token().context("a server without a token")?;
    let Bomb { path, content_type, encoding, .. } = bomb;
    let encoding = match *encoding {
        "" => String::new(),
        some => format!("Content-Encoding: {some}\r\n"),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: {content_type}\r\n{encoding}"
    );
    let request = Request { head, body: bomb.body.clone() };
    let process = engine.process();
    // What is loaded with the first request of a kind is not a bomb's doing.
    let (status, _) = connection.send(&request)?;
    let before = process.processor_time()?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let wall = Wall::start();
        let (again, answer) = connection.send(&request)?;
        taken.push(wall.elapsed());
        ensure!(again == status, "{}: answered {status}, then {again}: {answer}", bomb.name);
    }
    let used = process.processor_time()?.saturating_sub(before);
    let longest = taken.iter().max().copied().unwrap_or_default();
    let processor = used / u32::try_from(times).unwrap_or(u32::MAX);
    Ok(Refusal { middle: median(taken), longest, processor, status })
}

/// The machine's load of the last minute, five and fifteen.
fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
