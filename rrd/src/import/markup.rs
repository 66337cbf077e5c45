//! Markup: the tags and texts of what `rrdtool dump` prints, one after the other, within bounds.
//!
//! A small part of XML and nothing more: no attributes, no entities, no sections. Comments, the
//! declaration and a plain document type are passed over.

use std::io::{BufRead, Read as _};

use super::ImportError;

/// `rrd`, `rra`, `database`, `row`, `v`: nothing that rrdtool prints is deeper.
const DEEPEST: usize = 8;
/// Names of tags, and texts: its longest is the program of a computed source.
const LONGEST: usize = 1024;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `<name>`; see [`Markup::name`].
    Open,
    /// `</name>`, which fits the tag it closes.
    Close,
    /// Text that is not blank; see [`Markup::text`].
    Text,
    /// Nothing, and all tags are closed.
    End,
}

/// A file being read.
pub(super) struct Markup<'a> {
    input: &'a mut dyn BufRead,
    line: u64,
    /// Names of the open tags.
    open: Vec<Vec<u8>>,
    depth: usize,
    text: Vec<u8>,
    /// A `<` has been read.
    in_tag: bool,
}

impl<'a> Markup<'a> {
    pub(super) fn of(input: &'a mut dyn BufRead) -> Self {
        Self { input, line: 1, open: Vec::new(), depth: 0, text: Vec::new(), in_tag: false }
    }

    /// The name of the tag just opened.
    pub(super) fn name(&self) -> &[u8] {
        self.depth.checked_sub(1).map_or(&[], |top| &self.open[top])
    }

    /// The text just read, without the blanks around it.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.text.trim_ascii()).unwrap_or_default()
    }

    /// An error at this place.
    pub(super) fn refuse(&self, what: impl Into<String>) -> ImportError {
        ImportError::Markup { line: self.line, what: what.into() }
    }

    pub(super) fn next(&mut self) -> Result<Token, ImportError> {
        loop {
            if !self.in_tag {
                let is_end = self.upto(b'<')?;
                self.in_tag = !is_end;
                if !self.text.trim_ascii().is_empty() {
                    return if self.depth > 0 && !is_end {
                        self.checked_text()
                    } else {
                        Err(self.refuse("text outside of any tag"))
                    };
                }
                if is_end {
                    let is_whole = self.depth == 0;
                    return if is_whole { Ok(Token::End) } else { Err(ImportError::CutShort) };
                }
            }
            self.in_tag = false;
            if let Some(token) = self.tag()? {
                return Ok(token);
            }
        }
    }

    fn checked_text(&self) -> Result<Token, ImportError> {
        let text = self.text.trim_ascii();
        if text.contains(&b'&') || !text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(self.refuse("an entity, or a character that rrdtool does not print"));
        }
        Ok(Token::Text)
    }

    /// The tag whose `<` has been read; `None` for what is passed over.
    fn tag(&mut self) -> Result<Option<Token>, ImportError> {
        match self.peek()? {
            Some(b'!') => self.aside().map(|()| None),
            Some(b'?') => self.tag_end().map(|()| None),
            Some(b'/') => {
                self.tag_end()?;
                let fits = self.text.get(1..).is_some_and(|name| name.trim_ascii() == self.name());
                if self.depth == 0 || !fits {
                    return Err(self.refuse("a tag is closed that was not opened last"));
                }
                self.depth -= 1;
                Ok(Some(Token::Close))
            }
            Some(_) => self.opened().map(Some),
            None => Err(ImportError::CutShort),
        }
    }

    fn opened(&mut self) -> Result<Token, ImportError> {
        self.tag_end()?;
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if self.text.is_empty() || !self.text.iter().all(is_plain) {
            return Err(self.refuse("a tag that is no plain word"));
        }
        if self.depth == DEEPEST {
            return Err(self.refuse(format!("tags deeper than {DEEPEST}")));
        }
        if self.open.len() == self.depth {
            self.open.push(Vec::new());
        }
        self.open[self.depth].clone_from(&self.text);
        self.depth += 1;
        Ok(Token::Open)
    }

    /// A comment or a document type.
    fn aside(&mut self) -> Result<(), ImportError> {
        self.input.consume(1);
        if self.peek()? != Some(b'-') {
            self.tag_end()?;
            let is_plain = self.text.starts_with(b"DOCTYPE") && !self.text.contains(&b'[');
            return if is_plain { Ok(()) } else { Err(self.refuse("a declaration of entities")) };
        }
        let mut dashes = 0;
        self.input.consume(1);
        // Comments may be long, and nothing of them is kept.
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Err(ImportError::CutShort);
            }
            let mut used = 0;
            let mut is_over = false;
            for &byte in bytes {
                used += 1;
                is_over = byte == b'>' && dashes >= 2;
                dashes = if byte == b'-' { dashes + 1 } else { 0 };
                self.line += u64::from(byte == b'\n');
                if is_over {
                    break;
                }
            }
            self.input.consume(used);
            if is_over {
                return Ok(());
            }
        }
    }

    fn tag_end(&mut self) -> Result<(), ImportError> {
        if self.upto(b'>')? { Err(ImportError::CutShort) } else { Ok(()) }
    }

    fn peek(&mut self) -> Result<Option<u8>, ImportError> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    /// Reads text up to `end`, which is taken too; true when the file ends first.
    fn upto(&mut self, end: u8) -> Result<bool, ImportError> {
        self.text.clear();
        let mut bounded = (&mut *self.input).take(LONGEST as u64 + 1);
        bounded.read_until(end, &mut self.text)?;
        self.line += self.text.split(|byte| *byte == b'\n').skip(1).map(|_| 1).sum::<u64>();
        let is_found = self.text.last() == Some(&end);
        if is_found {
            self.text.pop();
        } else if self.text.len() > LONGEST {
            return Err(
                self.refuse(format!("more than {LONGEST} bytes without {:?}", char::from(end)))
            );
        }
        Ok(!is_found)
    }
}
