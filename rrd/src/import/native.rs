//! The binary form: what a 64-bit little-endian rrdtool writes, field by field.
//!
//! ```text
//!   128  head: "RRD" 0, version, 0 up to 16; 8.642135e130; sources, archives, step; ten words
//!   120  each source: name (20), type (20), heartbeat, min, max; seven words
//!   120  each archive: function (20), 0 (4), rows, steps a row, xff; nine words
//!    16  last update: seconds, microseconds
//!   112  each source: last reading (30), 0 (2), unknown seconds, value; eight words
//!    80  each archive, each source: value, unknown steps; eight words
//!     8  each archive: its newest row
//!     8  each archive, each row as it lies in the ring, each source: a value
//! ```

use std::io::{ErrorKind, Read};

use super::dump::{MOST_RRAS, MOST_SOURCES, MOST_VALUES, check_count, check_rows};
use super::{Dump, Function, ImportError, Prepared, Rra, Source, SourceKind};
use crate::Timestamp;
use crate::file::Reader;

/// Tells machines apart: no two kinds of numbers write it alike.
const FLOAT_COOKIE: f64 = 8.642_135E130;
const VERSIONS: [&str; 3] = ["0003", "0004", "0005"];

const HEAD_LEN: usize = 128;
const SOURCE_LEN: usize = 120;
const RRA_LEN: usize = 120;
const LIVE_LEN: usize = 16;
const PDP_LEN: usize = 112;
const CDP_LEN: usize = 80;
const NAME_LEN: usize = 20;
const READING_LEN: usize = 30;
/// Values are read this many bytes at a time.
const CHUNK: usize = 1 << 16;

/// Reads a whole file of `len` bytes.
pub(super) fn read(input: &mut (impl Read + ?Sized), len: u64) -> Result<Dump, ImportError> {
    let head = Head::read(input, len)?;
    let mut sources = head.sources(input)?;
    let rings = head.rings(input)?;
    let value_count = head.check_len(&rings, len)?;
    check_count("values", value_count, MOST_VALUES)?;
    let live: [u8; LIVE_LEN] = take(input)?;
    let last_update = last_update(&live)?;
    for source in &mut sources {
        source.read_open_step(&take::<PDP_LEN>(input)?)?;
    }
    let mut archives = Vec::with_capacity(rings.len());
    for ring in &rings {
        archives.push(ring.rra(input, sources.len())?);
    }
    let mut newest = Vec::with_capacity(rings.len());
    for ring in &rings {
        newest.push(ring.newest(u64::from_le_bytes(take(input)?))?);
    }
    for ((ring, rra), newest) in rings.iter().zip(&mut archives).zip(newest) {
        let values = read_values(input, ring.rows * sources.len())?;
        if rra.function.is_kept() {
            rra.values = values;
            rra.values.rotate_left((newest + 1) % ring.rows * sources.len());
        }
    }
    Dump { step_s: head.step_s, last_update, sources, archives }.check()
}

/// The names of its data sources.
pub(super) fn source_names(
    input: &mut (impl Read + ?Sized),
    len: u64,
) -> Result<Vec<String>, ImportError> {
    let sources = Head::read(input, len)?.sources(input)?;
    Ok(sources.into_iter().map(|source| source.name).collect())
}

/// The first 128 bytes.
struct Head {
    source_count: u64,
    rra_count: u64,
    step_s: u64,
}

impl Head {
    fn read(input: &mut (impl Read + ?Sized), len: u64) -> Result<Self, ImportError> {
        if len < HEAD_LEN as u64 {
            return Err(ImportError::CutShort);
        }
        let bytes: [u8; HEAD_LEN] = take(input)?;
        let mut fields = Reader(&bytes);
        let [magic, version] =
            [fields.take::<4>(), fields.take::<4>()].map(Option::unwrap_or_default);
        if magic != *b"RRD\0" {
            return Err(ImportError::Foreign);
        }
        if bytes[16..24] != FLOAT_COOKIE.to_le_bytes() {
            let mut swapped = FLOAT_COOKIE.to_le_bytes();
            let is_narrow = bytes[12..20] == swapped;
            swapped.reverse();
            let is_swapped = bytes[16..24] == swapped || bytes[12..20] == swapped;
            let of_others = is_narrow || is_swapped;
            return Err(if of_others { ImportError::OtherMachine } else { ImportError::Foreign });
        }
        let version = String::from_utf8_lossy(&version).into_owned();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(ImportError::Version(version));
        }
        let mut fields = Reader(&bytes[24..]);
        let counts = [fields.u64(), fields.u64(), fields.u64()].map(Option::unwrap_or_default);
        let [source_count, rra_count, step_s] = counts;
        // Words of 32 bits on a machine that aligns a double to 8: two counts lie in one word.
        if source_count > u64::from(u32::MAX) {
            return Err(ImportError::OtherMachine);
        }
        check_count("data sources", source_count, MOST_SOURCES)?;
        check_count("archives", rra_count, MOST_RRAS)?;
        Ok(Self { source_count, rra_count, step_s })
    }

    fn sources(&self, input: &mut (impl Read + ?Sized)) -> Result<Vec<Source>, ImportError> {
        (0..self.source_count).map(|_| Source::read(&take::<SOURCE_LEN>(input)?)).collect()
    }

    fn rings(&self, input: &mut (impl Read + ?Sized)) -> Result<Vec<Ring>, ImportError> {
        (0..self.rra_count).map(|_| Ring::read(&take::<RRA_LEN>(input)?)).collect()
    }

    /// How many values there are; errors when they and all before them do not fit the file.
    fn check_len(&self, rings: &[Ring], len: u64) -> Result<u64, ImportError> {
        let rows: u64 = rings.iter().map(|ring| ring.rows as u64).sum();
        let values = rows * self.source_count;
        let fixed = HEAD_LEN as u64
            + LIVE_LEN as u64
            + self.source_count * (SOURCE_LEN + PDP_LEN) as u64
            + self.rra_count * (RRA_LEN as u64 + 8 + self.source_count * CDP_LEN as u64);
        if len < fixed + values * 8 {
            return Err(ImportError::CutShort);
        }
        Ok(values)
    }
}

impl Source {
    fn read(bytes: &[u8; SOURCE_LEN]) -> Result<Self, ImportError> {
        let kind = SourceKind::named(&text(&bytes[NAME_LEN..2 * NAME_LEN], "type")?);
        let mut fields = Reader(&bytes[2 * NAME_LEN..]);
        let mut source = Self {
            name: text(&bytes[..NAME_LEN], "name of a data source")?,
            kind,
            heartbeat_s: fields.u64().unwrap_or_default(),
            min: fields.f64().unwrap_or(f64::NAN),
            max: fields.f64().unwrap_or(f64::NAN),
            last_reading: String::new(),
            value: f64::NAN,
            unknown_s: 0,
        };
        if let SourceKind::Other(_) = source.kind {
            // The words hold a program there.
            (source.heartbeat_s, source.min, source.max) = (0, f64::NAN, f64::NAN);
        }
        Ok(source)
    }

    fn read_open_step(&mut self, bytes: &[u8; PDP_LEN]) -> Result<(), ImportError> {
        self.last_reading = text(&bytes[..READING_LEN], "last reading")?;
        let mut fields = Reader(&bytes[READING_LEN + 2..]);
        self.unknown_s = fields.u64().unwrap_or_default();
        self.value = fields.f64().unwrap_or(f64::NAN);
        Ok(())
    }
}

/// The definition of an archive.
struct Ring {
    function: Function,
    rows: usize,
    steps_per_row: u64,
    xff: f64,
}

impl Ring {
    fn read(bytes: &[u8; RRA_LEN]) -> Result<Self, ImportError> {
        let function = Function::named(&text(&bytes[..NAME_LEN], "function of an archive")?);
        let mut fields = Reader(&bytes[NAME_LEN + 4..]);
        let rows = fields.u64().unwrap_or_default();
        check_rows(rows)?;
        let rows = usize::try_from(rows).expect("at most 2^24");
        if rows == 0 {
            return Err(ImportError::field("count of rows", 0));
        }
        let steps_per_row = fields.u64().unwrap_or_default();
        let xff = if function.is_kept() { fields.f64().unwrap_or(f64::NAN) } else { 0.0 };
        Ok(Self { function, rows, steps_per_row, xff })
    }

    fn newest(&self, row: u64) -> Result<usize, ImportError> {
        let found = usize::try_from(row).ok().filter(|row| *row < self.rows);
        found.ok_or_else(|| ImportError::field("newest row", row))
    }

    fn rra(
        &self,
        input: &mut (impl Read + ?Sized),
        source_count: usize,
    ) -> Result<Rra, ImportError> {
        let mut prepared = Vec::with_capacity(source_count);
        for _ in 0..source_count {
            let bytes: [u8; CDP_LEN] = take(input)?;
            let mut fields = Reader(&bytes);
            let value = fields.f64().unwrap_or(f64::NAN);
            prepared.push(Prepared { value, unknown_steps: fields.u64().unwrap_or_default() });
        }
        if !self.function.is_kept() {
            prepared.clear();
        }
        let (function, steps_per_row, xff) = (self.function.clone(), self.steps_per_row, self.xff);
        Ok(Rra { function, steps_per_row, xff, prepared, values: Vec::new() })
    }
}

fn last_update(live: &[u8; LIVE_LEN]) -> Result<Timestamp, ImportError> {
    let mut fields = Reader(live);
    let secs = fields.u64().unwrap_or_default().cast_signed();
    let micros = fields.u64().unwrap_or_default().cast_signed();
    match secs.checked_mul(1000) {
        Some(millis) if (0..1_000_000).contains(&micros) => {
            Ok(Timestamp::from_millis(millis.saturating_add(micros / 1000)))
        }
        _ => Err(ImportError::field("last update", secs)),
    }
}

fn read_values(input: &mut (impl Read + ?Sized), count: usize) -> Result<Vec<f64>, ImportError> {
    let mut values = Vec::with_capacity(count);
    let mut buffer = vec![0; CHUNK.min(count * 8)];
    while values.len() < count {
        let part = buffer.len().min((count - values.len()) * 8);
        read_exact(input, &mut buffer[..part])?;
        let numbers = buffer[..part].as_chunks::<8>().0.iter();
        values.extend(numbers.map(|bytes| f64::from_le_bytes(*bytes)));
    }
    Ok(values)
}

fn take<const N: usize>(input: &mut (impl Read + ?Sized)) -> Result<[u8; N], ImportError> {
    let mut bytes = [0; N];
    read_exact(input, &mut bytes)?;
    Ok(bytes)
}

fn read_exact(input: &mut (impl Read + ?Sized), bytes: &mut [u8]) -> Result<(), ImportError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => ImportError::CutShort,
        _ => error.into(),
    })
}

/// A text that ends at its first zero.
fn text(bytes: &[u8], what: &'static str) -> Result<String, ImportError> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let printable = bytes[..end].iter().all(|byte| (b' '..=b'~').contains(byte));
    let shown = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if printable { Ok(shown) } else { Err(ImportError::field(what, shown)) }
}
