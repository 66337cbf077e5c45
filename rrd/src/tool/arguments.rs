//! The words after a command: options anywhere, their values, and the rest in order.

use super::{ToolError, refuse};

/// An option: its letter, its long name, and whether a value follows.
pub(super) struct Flag(pub(super) char, pub(super) &'static str, pub(super) Takes);

/// Whether a value follows an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Value,
    Nothing,
}

/// Names no letter.
pub(super) const NO_LETTER: char = '\0';

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    options: Vec<(&'static str, &'a str)>,
    pub(super) words: Vec<&'a str>,
}

impl<'a> Given<'a> {
    /// Reads the words; those after `--` are no options.
    pub(super) fn parse(words: &[&'a str], known: &[Flag]) -> Result<Self, ToolError> {
        let mut given = Self::default();
        let mut rest = words.iter().copied();
        while let Some(word) = rest.next() {
            if word == "--" {
                given.words.extend(rest.by_ref());
            } else if let Some(long) = word.strip_prefix("--") {
                given.long(long, known, &mut rest)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                given.short(letters, known, &mut rest)?;
            } else {
                given.words.push(word);
            }
        }
        if given.get("daemon").is_some() {
            return refuse("--daemon: there is no daemon, files are written at once; leave it out");
        }
        Ok(given)
    }

    fn long(
        &mut self,
        text: &'a str,
        known: &[Flag],
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), ToolError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let Some(Flag(_, name, takes)) = known.iter().find(|option| option.1 == name) else {
            return refuse(format!("--{name}: no such option; \"--help\" names them"));
        };
        let value = match (takes, value) {
            (Takes::Nothing, Some(_)) => return refuse(format!("--{name} takes no value")),
            (Takes::Nothing, None) => Some(""),
            (Takes::Value, None) => rest.next(),
            (Takes::Value, value) => value,
        };
        self.put(name, value)
    }

    fn short(
        &mut self,
        letters: &'a str,
        known: &[Flag],
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), ToolError> {
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            let Some(Flag(_, name, takes)) = known.iter().find(|option| option.0 == letter) else {
                return refuse(format!(
                    "-{letter}: no such option; \"--help\" names them, and \"--\" goes before words that begin with a dash"
                ));
            };
            if *takes == Takes::Nothing {
                self.put(name, Some(""))?;
                continue;
            }
            let glued = letters.as_str();
            let value = if glued.is_empty() { rest.next() } else { Some(glued) };
            return self.put(name, value);
        }
        Ok(())
    }

    fn put(&mut self, name: &'static str, value: Option<&'a str>) -> Result<(), ToolError> {
        let Some(value) = value else { return refuse(format!("--{name}: its value is missing")) };
        self.options.push((name, value));
        Ok(())
    }

    /// The value of an option, the last one where it was given twice.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.all().rev().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every option in the order given.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (&'static str, &'a str)> {
        self.options.iter().copied()
    }

    /// The file, which is the first word, and the words after it.
    pub(super) fn file(&self) -> Result<(&'a str, &[&'a str]), ToolError> {
        match self.words.split_first() {
            Some((file, rest)) if !file.is_empty() => Ok((file, rest)),
            _ => refuse("which file? Name it first, as in \"roundel rrd info load.rrd\""),
        }
    }

    /// The file, where nothing follows it.
    pub(super) fn only_file(&self) -> Result<&'a str, ToolError> {
        match self.file()? {
            (file, []) => Ok(file),
            (_, [extra, ..]) => refuse(format!("{extra:?}: nothing follows the file")),
        }
    }
}
