//! A line of samples, taken apart: quotes first, so that nothing inside them is taken for anything
//! else. Nothing is copied.

use super::Format;
use super::fault::Fault;

/// The parts of a sample's line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parts<'a> {
    pub(super) series: Series<'a>,
    pub(super) value: &'a str,
    pub(super) timestamp: Option<&'a str>,
    pub(super) exemplar: Option<Exemplar<'a>>,
}

/// What follows a sample's ` # `.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar<'a> {
    /// Its labels, braces included.
    pub(super) labels: &'a str,
    pub(super) value: &'a str,
    pub(super) timestamp: Option<&'a str>,
}

/// A series as its line writes it: name and braces. Equal texts are equal series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Series<'a> {
    text: &'a str,
    name: Name<'a>,
}

/// A name as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Name<'a> {
    /// Without its quotes, still escaped.
    pub(super) written: &'a str,
    pub(super) is_quoted: bool,
}

/// Something inside a series' braces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item<'a> {
    /// A quoted metric name.
    Metric(&'a str),
    /// A label and its value, which is still escaped.
    Label(Name<'a>, &'a str),
}

impl<'a> Series<'a> {
    /// The bytes that stand for the series.
    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    pub(super) const fn name(&self) -> Name<'a> {
        self.name
    }

    /// A series that is written so. Errors when the text is not one series and nothing else.
    pub(crate) fn read(text: &'a str) -> Result<Self, Fault> {
        let mut cursor = Cursor::of(text, Format::Text);
        let series = cursor.series(&mut |_| {})?;
        if cursor.rest().is_empty() { Ok(series) } else { Err(Fault::Trailing) }
    }

    /// Each label in the order written. The text was checked when it was taken apart.
    pub(super) fn each_label(&self, mut each: impl FnMut(Name<'a>, &'a str)) {
        let read = Cursor::of(self.text, Format::Text).series(&mut |item| {
            if let Item::Label(name, value) = item {
                each(name, value);
            }
        });
        debug_assert!(read.is_ok(), "checked when it was taken apart");
    }
}

/// Takes a line apart that holds neither a comment nor nothing.
pub(super) fn parts(line: &str, format: Format) -> Result<Parts<'_>, Fault> {
    let mut cursor = Cursor::of(line, format);
    let series = cursor.series(&mut |_| {})?;
    let is_apart = cursor.gap()? || (format == Format::Text && series.text.ends_with('}'));
    let value = cursor.word();
    if value.is_empty() || !is_apart {
        return Err(Fault::NoValue);
    }
    let mut parts = Parts { series, value, timestamp: None, exemplar: None };
    cursor.gap()?;
    if !cursor.rest().is_empty() && !cursor.rest().starts_with('#') {
        parts.timestamp = Some(cursor.word());
        cursor.gap()?;
    }
    if cursor.eat(b'#') {
        if !cursor.gap()? && format == Format::OpenMetrics {
            return Err(Fault::Blanks);
        }
        parts.exemplar = Some(exemplar(&mut cursor)?);
    }
    if !cursor.rest().is_empty() {
        return Err(Fault::Trailing);
    }
    if format == Format::OpenMetrics && line.ends_with(' ') {
        return Err(Fault::Blanks);
    }
    Ok(parts)
}

/// The labels of an exemplar, which are written as a series without a name.
pub(super) fn exemplar_labels<'a>(
    text: &'a str,
    mut each: impl FnMut(Name<'a>, &'a str),
) -> Result<(), Fault> {
    let mut is_named = false;
    Cursor::of(text, Format::OpenMetrics).braces(&mut |item| match item {
        Item::Label(name, value) => each(name, value),
        Item::Metric(_) => is_named = true,
    })?;
    if is_named { Err(Fault::Exemplar) } else { Ok(()) }
}

fn exemplar<'a>(cursor: &mut Cursor<'a>) -> Result<Exemplar<'a>, Fault> {
    let start = cursor.at;
    if !cursor.rest().starts_with('{') {
        return Err(Fault::Exemplar);
    }
    cursor.braces(&mut |_| {})?;
    let labels = cursor.since(start);
    if !cursor.gap()? {
        return Err(Fault::Exemplar);
    }
    let value = cursor.word();
    if value.is_empty() {
        return Err(Fault::Exemplar);
    }
    cursor.gap()?;
    let timestamp = Some(cursor.word()).filter(|word| !word.is_empty());
    cursor.gap()?;
    Ok(Exemplar { labels, value, timestamp })
}

/// A name as Prometheus writes it without quotes.
pub(super) fn is_plain_name(text: &str, may_hold_colons: bool) -> bool {
    let is_start =
        |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (may_hold_colons && byte == b':');
    let mut bytes = text.bytes();
    bytes.next().is_some_and(is_start) && bytes.all(|byte| is_start(byte) || byte.is_ascii_digit())
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
    format: Format,
}

impl<'a> Cursor<'a> {
    fn of(text: &'a str, format: Format) -> Self {
        Self { text, at: 0, format }
    }

    /// Always on a character's boundary: only ASCII bytes are stepped over, or whole quotes.
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// Steps over blanks. `OpenMetrics` has one space wherever it has any.
    fn gap(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let is_odd = self.at - start > 1 || self.since(start) == "\t";
        if is_odd && self.format == Format::OpenMetrics {
            return Err(Fault::Blanks);
        }
        Ok(self.at > start)
    }

    /// Steps over blanks inside braces, where `OpenMetrics` has none.
    fn inner_gap(&mut self) -> Result<(), Fault> {
        if self.gap()? && self.format == Format::OpenMetrics {
            return Err(Fault::Blanks);
        }
        Ok(())
    }

    /// All up to the next blank.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let len = rest.find([' ', '\t']).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// Letters, digits, underscores and colons.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':') {
            self.at += 1;
        }
        self.since(start)
    }

    /// What stands in quotes; the cursor is on the first of them.
    fn quoted(&mut self) -> Result<&'a str, Fault> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                None => return Err(Fault::OpenQuote),
                Some(b'"') => break,
                // The character after a backslash stands for itself, a quote too. Continuation
                // bytes of a longer one are stepped over as any other byte.
                Some(b'\\') if self.at + 1 < self.text.len() => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        let inside = self.since(start);
        self.at += 1;
        Ok(inside)
    }

    fn series(&mut self, each: &mut impl FnMut(Item<'a>)) -> Result<Series<'a>, Fault> {
        let start = self.at;
        let plain = self.plain();
        if !plain.is_empty() && !is_plain_name(plain, true) {
            return Err(Fault::Name);
        }
        let mut name = (!plain.is_empty()).then_some(Name { written: plain, is_quoted: false });
        let mut end = self.at;
        let mut is_named_twice = false;
        // A blank between name and braces is legal; one before a value belongs to neither.
        let mut ahead = Self { text: self.text, at: self.at, format: self.format };
        let blanks = ahead.inner_gap();
        if ahead.peek() == Some(b'{') {
            blanks?;
            self.at = ahead.at;
            self.braces(&mut |item| {
                if let Item::Metric(written) = item {
                    is_named_twice |= name.is_some();
                    name = Some(Name { written, is_quoted: true });
                }
                each(item);
            })?;
            end = self.at;
        }
        if is_named_twice {
            return Err(Fault::TwoNames);
        }
        let name = name.filter(|name| !name.written.is_empty()).ok_or(Fault::NoName)?;
        Ok(Series { text: self.text.get(start..end).unwrap_or_default(), name })
    }

    /// What stands in braces; the cursor is on the first of them.
    fn braces(&mut self, each: &mut impl FnMut(Item<'a>)) -> Result<(), Fault> {
        self.at += 1;
        let mut is_first = true;
        loop {
            self.inner_gap()?;
            if self.eat(b'}') {
                // `OpenMetrics` has no comma behind the last label.
                let is_odd = !is_first && self.format == Format::OpenMetrics;
                return if is_odd { Err(Fault::Comma) } else { Ok(()) };
            }
            is_first = false;
            each(self.item()?);
            self.inner_gap()?;
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(Fault::Comma);
            }
        }
    }

    fn item(&mut self) -> Result<Item<'a>, Fault> {
        let name = match self.peek() {
            None => return Err(Fault::OpenBrace),
            Some(b'"') => Name { written: self.quoted()?, is_quoted: true },
            Some(_) => {
                let written = self.plain();
                if !is_plain_name(written, false) {
                    return Err(Fault::LabelName);
                }
                Name { written, is_quoted: false }
            }
        };
        self.inner_gap()?;
        if !self.eat(b'=') {
            return if name.is_quoted {
                Ok(Item::Metric(name.written))
            } else {
                Err(Fault::NoEquals)
            };
        }
        self.inner_gap()?;
        if self.peek() != Some(b'"') {
            return Err(Fault::NoQuote);
        }
        Ok(Item::Label(name, self.quoted()?))
    }
}
