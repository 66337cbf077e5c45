//! The XML form: what `rrdtool dump` prints, row by row. The file is never held whole.

use std::io::BufRead;

use super::dump::{MOST_RRAS, MOST_SOURCES, MOST_VALUES, check_count, check_rows};
use super::markup::{Markup, Token};
use super::{Dump, Function, ImportError, Prepared, Rra, Source, SourceKind};
use crate::Timestamp;

const VERSIONS: [&str; 4] = ["0001", "0003", "0004", "0005"];

/// Reads a whole file.
pub(super) fn read(input: &mut dyn BufRead) -> Result<Dump, ImportError> {
    Reader::of(input).dump(false)
}

/// The names of its data sources, which come before the rows.
pub(super) fn source_names(input: &mut dyn BufRead) -> Result<Vec<String>, ImportError> {
    let dump = Reader::of(input).dump(true)?;
    Ok(dump.sources.into_iter().map(|source| source.name).collect())
}

struct Reader<'a> {
    markup: Markup<'a>,
    /// Values read so far.
    value_count: u64,
}

impl<'a> Reader<'a> {
    fn of(input: &'a mut dyn BufRead) -> Self {
        Self { markup: Markup::of(input), value_count: 0 }
    }

    fn dump(&mut self, only_head: bool) -> Result<Dump, ImportError> {
        match self.markup.next() {
            Ok(Token::Open) if self.markup.name() == b"rrd" => {}
            Err(error @ ImportError::Io(_)) => return Err(error),
            _ => return Err(ImportError::Foreign),
        }
        let (mut step, mut last) = (None, None);
        let (mut sources, mut archives) = (Vec::new(), Vec::new());
        while let Some(name) = self.child()? {
            match name.as_slice() {
                b"version" => self.version()?,
                b"step" => step = Some(self.number("step")?),
                b"lastupdate" => last = Some(self.number("last update")?),
                b"ds" if archives.is_empty() => {
                    sources.push(self.source()?);
                    check_count("data sources", sources.len() as u64, MOST_SOURCES)?;
                }
                b"rra" => {
                    if only_head {
                        break;
                    }
                    archives.push(self.rra(sources.len())?);
                    check_count("archives", archives.len() as u64, MOST_RRAS)?;
                }
                _ => return Err(self.unexpected(&name)),
            }
        }
        if !only_head && self.markup.next()? != Token::End {
            return Err(self.markup.refuse("something after the database"));
        }
        let missing = |what| move || ImportError::field(what, "missing");
        let step_s = step.ok_or_else(missing("step"))?;
        let last_s: u64 = last.ok_or_else(missing("last update"))?;
        let last_s =
            i64::try_from(last_s).map_err(|_| ImportError::field("last update", last_s))?;
        Dump { step_s, last_update: Timestamp::from_secs(last_s), sources, archives }.check()
    }

    fn version(&mut self) -> Result<(), ImportError> {
        let version = self.leaf()?;
        if VERSIONS.contains(&version.as_str()) {
            Ok(())
        } else {
            Err(ImportError::Version(version))
        }
    }

    fn source(&mut self) -> Result<Source, ImportError> {
        let mut source = Source {
            name: String::new(),
            kind: SourceKind::Other(String::new()),
            heartbeat_s: 0,
            min: f64::NAN,
            max: f64::NAN,
            last_reading: String::new(),
            value: f64::NAN,
            unknown_s: 0,
        };
        while let Some(name) = self.child()? {
            match name.as_slice() {
                b"name" => source.name = self.leaf()?,
                b"type" => source.kind = SourceKind::named(&self.leaf()?),
                b"minimal_heartbeat" => source.heartbeat_s = self.number("heartbeat")?,
                b"min" => source.min = self.value("min")?,
                b"max" => source.max = self.value("max")?,
                b"last_ds" => source.last_reading = self.leaf()?,
                b"value" => source.value = self.value("value of the open step")?,
                b"unknown_sec" => source.unknown_s = self.number("count of unknown seconds")?,
                b"cdef" => {
                    self.leaf()?;
                }
                _ => return Err(self.unexpected(&name)),
            }
        }
        Ok(source)
    }

    fn rra(&mut self, source_count: usize) -> Result<Rra, ImportError> {
        let mut rra = Rra {
            function: Function::Other(String::new()),
            steps_per_row: 0,
            xff: 0.0,
            prepared: Vec::new(),
            values: Vec::new(),
        };
        while let Some(name) = self.child()? {
            match name.as_slice() {
                b"cf" => rra.function = Function::named(&self.leaf()?),
                b"pdp_per_row" => rra.steps_per_row = self.number("count of steps in a row")?,
                // Files of version 0001 have it here, later ones among the parameters.
                b"xff" => rra.xff = self.value("xff")?,
                b"params" => self.parameters(&mut rra)?,
                b"cdp_prep" => self.prepared(&mut rra, source_count)?,
                b"database" => self.database(&mut rra, source_count)?,
                _ => return Err(self.unexpected(&name)),
            }
        }
        if rra.function.is_kept() && rra.prepared.len() != source_count {
            return Err(self.markup.refuse("an archive without an open row for each source"));
        }
        Ok(rra)
    }

    fn parameters(&mut self, rra: &mut Rra) -> Result<(), ImportError> {
        while let Some(name) = self.child()? {
            match name.as_slice() {
                b"xff" => rra.xff = self.value("xff")?,
                _ => drop(self.leaf()?),
            }
        }
        Ok(())
    }

    fn prepared(&mut self, rra: &mut Rra, source_count: usize) -> Result<(), ImportError> {
        let mut count = 0;
        while let Some(name) = self.child()? {
            if name != b"ds" || count == source_count {
                return Err(self.unexpected(&name));
            }
            count += 1;
            let mut prepared = Prepared { value: f64::NAN, unknown_steps: 0 };
            while let Some(name) = self.child()? {
                match name.as_slice() {
                    b"value" => prepared.value = self.value("value of an open row")?,
                    b"unknown_datapoints" => {
                        prepared.unknown_steps = self.number("count of unknown steps")?;
                    }
                    // Seasons have their history here.
                    b"history" => self.history()?,
                    _ => drop(self.leaf()?),
                }
            }
            if rra.function.is_kept() {
                rra.prepared.push(prepared);
            }
        }
        Ok(())
    }

    /// A text of any form, passed over.
    fn history(&mut self) -> Result<(), ImportError> {
        self.leaf().map(drop)
    }

    fn database(&mut self, rra: &mut Rra, source_count: usize) -> Result<(), ImportError> {
        let is_kept = rra.function.is_kept();
        let mut rows = 0;
        while self.enters(b"row")? {
            rows += 1;
            check_rows(rows)?;
            for _ in 0..source_count {
                if !self.enters(b"v")? {
                    return Err(self.markup.refuse("a row with fewer values than sources"));
                }
                let value = self.value("value of a row")?;
                if is_kept {
                    rra.values.push(value);
                    self.value_count += 1;
                    check_count("values", self.value_count, MOST_VALUES)?;
                }
            }
            if self.markup.next()? != Token::Close {
                return Err(self.markup.refuse("a row with more values than sources"));
            }
        }
        if rows == 0 {
            return Err(self.markup.refuse("an archive without rows"));
        }
        Ok(())
    }

    /// True when a tag of this name is opened, false when the one around it is closed.
    fn enters(&mut self, name: &[u8]) -> Result<bool, ImportError> {
        match self.markup.next()? {
            Token::Open if self.markup.name() == name => Ok(true),
            Token::Close => Ok(false),
            _ => Err(self.markup.refuse("something between rows and values")),
        }
    }

    /// The name of the next tag inside the one open; `None` when that is closed.
    fn child(&mut self) -> Result<Option<Vec<u8>>, ImportError> {
        match self.markup.next()? {
            Token::Open => Ok(Some(self.markup.name().to_vec())),
            Token::Close => Ok(None),
            Token::Text => Err(self.markup.refuse("text between tags")),
            Token::End => Err(ImportError::CutShort),
        }
    }

    /// The text of the tag just opened, which has nothing else; its end is taken too.
    fn leaf(&mut self) -> Result<String, ImportError> {
        let text = match self.markup.next()? {
            Token::Close => return Ok(String::new()),
            Token::Text => self.markup.text().to_owned(),
            _ => return Err(self.markup.refuse("a tag where a text is due")),
        };
        self.closed()?;
        Ok(text)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, ImportError> {
        let text = self.leaf()?;
        text.parse().map_err(|_| ImportError::field(what, text))
    }

    /// A number with decimals; without a text of its own, as most there are.
    fn value(&mut self, what: &'static str) -> Result<f64, ImportError> {
        if self.markup.next()? != Token::Text {
            return Err(ImportError::field(what, "missing"));
        }
        let text = self.markup.text();
        let value = text.parse().map_err(|_| ImportError::field(what, text))?;
        self.closed()?;
        Ok(value)
    }

    fn closed(&mut self) -> Result<(), ImportError> {
        match self.markup.next()? {
            Token::Close => Ok(()),
            _ => Err(self.markup.refuse("a text that does not end with its tag")),
        }
    }

    fn unexpected(&self, name: &[u8]) -> ImportError {
        self.markup.refuse(format!("unexpected <{}>", String::from_utf8_lossy(name)))
    }
}
