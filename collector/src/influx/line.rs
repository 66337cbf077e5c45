//! Lines: `measurement,tag=value field=1i,other="text" 1700000000000000000`, one after another.

use std::borrow::Cow;

use crate::foreign::spelling::number;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// A float, a whole number, or a truth as 1 or 0.
    Number(f64),
    /// A text, which no archive holds.
    Text,
}

/// A field's key as it was written, and its value.
pub(super) type Field<'a> = (&'a [u8], Value);

/// A line; its names still have their escapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) measurement: &'a [u8],
    /// All tags, without the comma before the first.
    pub(super) tags: &'a [u8],
    pub(super) fields: &'a [Field<'a>],
    /// The timestamp in whatever unit the write has.
    pub(super) at: Option<i64>,
}

/// A line that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bad<'a> {
    /// All of it.
    pub(super) text: &'a [u8],
    /// Why, for its sender.
    pub(super) why: &'static str,
}

/// What was read, or why it could not be.
type Read<T> = Result<T, &'static str>;

const NO_MEASUREMENT: &str = "missing measurement";
const NO_TAG: &str = "invalid tag format: a tag is key=value with both";
const NO_FIELDS: &str = "missing fields";
const NO_FIELD: &str = "invalid field format: a field is key=value with both";
const NO_VALUE: &str =
    "invalid field value: a number, a whole number with i or u, true, false or a quoted text";
const NO_QUOTE: &str = "unbalanced quotes";
const NO_TIME: &str = "bad timestamp: a whole number in the unit of the write";

/// The lines of a write. Blank lines and comments are none.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    fields: Vec<Field<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) const fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, fields: Vec::new() }
    }

    /// The next line; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Result<Line<'_>, Bad<'_>>> {
        self.skip_nothing();
        let start = self.at;
        if start == self.text.len() {
            return None;
        }
        self.fields.clear();
        match self.line() {
            Ok((measurement, tags, at)) => {
                Some(Ok(Line { measurement, tags, fields: &self.fields, at }))
            }
            Err(why) => {
                self.at = self.upto(b"\n");
                Some(Err(Bad { text: &self.text[start..self.at], why }))
            }
        }
    }

    /// Goes to the first byte of a line that says something.
    fn skip_nothing(&mut self) {
        while let Some(byte) = self.byte() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0 => self.at += 1,
                b'#' => self.at = self.upto(b"\n"),
                _ => return,
            }
        }
    }

    fn line(&mut self) -> Read<(&'a [u8], &'a [u8], Option<i64>)> {
        let measurement = self.token(b", \n");
        if measurement.is_empty() {
            return Err(NO_MEASUREMENT);
        }
        let tags = self.tags()?;
        if !self.take(b' ') {
            return Err(NO_FIELDS);
        }
        self.blanks();
        loop {
            self.field()?;
            if !self.take(b',') {
                break;
            }
        }
        Ok((measurement, tags, self.timestamp()?))
    }

    fn tags(&mut self) -> Read<&'a [u8]> {
        let start = self.at + 1;
        while self.take(b',') {
            let name = self.token(b"=, \n");
            if name.is_empty() || !self.take(b'=') || self.token(b"=, \n").is_empty() {
                return Err(NO_TAG);
            }
        }
        if self.byte() == Some(b'=') {
            return Err(NO_TAG);
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn field(&mut self) -> Read<()> {
        let key = self.token(b"=, \n");
        if key.is_empty() {
            return Err(if self.fields.is_empty() { NO_FIELDS } else { NO_FIELD });
        }
        if !self.take(b'=') {
            return Err(NO_FIELD);
        }
        let value = if self.take(b'"') { self.quoted()? } else { self.plain()? };
        self.fields.push((key, value));
        Ok(())
    }

    /// The rest of a text, which may hold newlines.
    fn quoted(&mut self) -> Read<Value> {
        let end = self.upto(b"\"");
        if end == self.text.len() {
            return Err(NO_QUOTE);
        }
        self.at = end + 1;
        Ok(Value::Text)
    }

    fn plain(&mut self) -> Read<Value> {
        let start = self.at;
        self.at = self.at_one_of(b", \r\n");
        value(&self.text[start..self.at]).map(Value::Number).ok_or(NO_VALUE)
    }

    fn timestamp(&mut self) -> Read<Option<i64>> {
        let parted = self.blanks();
        let start = self.at;
        self.at = self.at_one_of(b" \r\n");
        let text = str::from_utf8(&self.text[start..self.at]).unwrap_or("?");
        self.blanks();
        if !matches!(self.byte(), None | Some(b'\n')) || (!parted && !text.is_empty()) {
            return Err(NO_TIME);
        }
        match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| NO_TIME),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.byte() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Skips blanks; true when there was one.
    fn blanks(&mut self) -> bool {
        let start = self.at;
        while matches!(self.byte(), Some(b' ' | b'\r')) {
            self.at += 1;
        }
        self.at > start
    }

    /// What stands before one of `stops`, which a backslash hides.
    fn token(&mut self, stops: &[u8]) -> &'a [u8] {
        let start = self.at;
        self.at = self.upto(stops);
        &self.text[start..self.at]
    }

    /// Where one of `stops` is next that no backslash hides; a newline is never hidden.
    fn upto(&self, stops: &[u8]) -> usize {
        let mut at = self.at;
        while let Some(byte) = self.text.get(at) {
            if stops.contains(byte) {
                return at;
            }
            let hides = *byte == b'\\' && self.text.get(at + 1).is_some_and(|next| *next != b'\n');
            at += 1 + usize::from(hides);
        }
        self.text.len()
    }

    fn at_one_of(&self, stops: &[u8]) -> usize {
        let rest = &self.text[self.at..];
        rest.iter().position(|byte| stops.contains(byte)).map_or(self.text.len(), |n| self.at + n)
    }
}

/// A number in the words of the protocol.
fn value(text: &[u8]) -> Option<f64> {
    let text = str::from_utf8(text).ok()?;
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Some(0.0),
        _ => {}
    }
    let whole = |digits: &str, fits: bool| if fits { number(digits) } else { None };
    match (text.strip_suffix('i'), text.strip_suffix('u')) {
        (Some(digits), _) => whole(digits, digits.parse::<i64>().is_ok()),
        (_, Some(digits)) => whole(digits, digits.parse::<u64>().is_ok()),
        _ => number(text),
    }
}

/// Tags with their escapes, in the order of the line.
pub(super) fn tags(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Lines::of(text);
    std::iter::from_fn(move || {
        let name = rest.token(b"=");
        rest.take(b'=').then(|| {
            let value = rest.token(b",");
            rest.take(b',');
            (name, value)
        })
    })
}

/// A name or a tag's value without its escapes. A backslash before any other byte is one.
pub(super) fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let hidden = bytes.next_if(|next| byte == b'\\' && b",= \\".contains(next));
        plain.push(hidden.unwrap_or(byte));
    }
    Cow::Owned(plain)
}
