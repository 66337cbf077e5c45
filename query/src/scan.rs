//! A look over the text before it is parsed: bounds that keep the parser from harm.
//!
//! The parser recurses over what it built, takes any number for a duration and compiles any
//! pattern; each ends the process when an asker means ill. This finds such text first, and knows
//! where in it.

use crate::Error;
use crate::error::Position;
use crate::patterns::Weight;

/// Longer than any rule or panel that people write; a bound for the parser's memory.
pub(crate) const TEXT_BYTES: usize = 16 * 1024;

/// Brackets and operators inside each other; a bound for every recursion over the plan.
pub(crate) const DEPTH: usize = 100;

/// Longer windows and offsets than any archive: a century, in seconds.
const LONGEST_SECS: f64 = 3.2e9;

/// Errors when `text` is too long, too deep, unbalanced, or holds an impossible duration or
/// patterns that take too much.
pub(crate) fn check(text: &str) -> Result<(), Error> {
    if text.len() > TEXT_BYTES {
        return Err(Error::Limit(format!(
            "the query has {} bytes, over the limit of {TEXT_BYTES}; shorten it",
            text.len()
        )));
    }
    let (open, operators, patterns) = (Vec::new(), vec![0], Weight::default());
    Scan { text, at: 0, open, operators, patterns, duration_next: false }.run()
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Open brackets and where each stands.
    open: Vec<(char, usize)>,
    /// Operators seen so far in each level of brackets, the outermost first.
    operators: Vec<usize>,
    patterns: Weight,
    /// True after `offset`: a number there is a duration.
    duration_next: bool,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), Error> {
        while let Some(c) = self.peek() {
            match c {
                '"' | '\'' | '`' => self.skip_string(c)?,
                '#' => self.skip_while(|c| c != '\n' && c != '\r'),
                '(' | '[' | '{' => self.descend(c)?,
                ')' | ']' | '}' => self.ascend(c)?,
                ',' => {
                    self.operators.pop();
                    self.operators.push(0);
                    self.at += 1;
                }
                c if c.is_ascii_digit() || c == '.' => self.number()?,
                c if c.is_ascii_alphabetic() || c == '_' || c == ':' => self.word()?,
                c if "+-*/%^=!<>".contains(c) => self.operator()?,
                c => self.at += c.len_utf8(),
            }
        }
        match self.open.last() {
            None => Ok(()),
            Some((bracket, at)) => Err(self.wrong(*at, format!("unclosed {bracket:?}"))),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, at: usize, message: impl Into<String>) -> Error {
        Error::Parse { at: Some(Position::of(self.text, at)), message: message.into() }
    }

    fn skip_while(&mut self, accept: impl Fn(char) -> bool) {
        self.at += self.rest().find(|c| !accept(c)).unwrap_or(self.rest().len());
    }

    fn skip_string(&mut self, quote: char) -> Result<(), Error> {
        let start = self.at;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            if escaped {
                // The parser would cut such a letter in two.
                if quote != '`' && !c.is_ascii() {
                    return Err(self.wrong(start + offset, format!("unknown escape of {c:?}")));
                }
                escaped = false;
            } else if c == '\\' {
                // The parser honours a backslash in raw strings too, as far as their end goes.
                escaped = true;
            } else if c == quote {
                self.at = start + offset + c.len_utf8();
                return self.patterns.add(self.text.get(start..self.at).unwrap_or_default());
            }
        }
        Err(self.wrong(start, "unterminated quoted string"))
    }

    fn descend(&mut self, bracket: char) -> Result<(), Error> {
        self.open.push((bracket, self.at));
        self.operators.push(0);
        self.duration_next = false;
        self.at += 1;
        self.check_depth()
    }

    fn ascend(&mut self, bracket: char) -> Result<(), Error> {
        let opening = match bracket {
            ')' => '(',
            ']' => '[',
            _ => '{',
        };
        match self.open.pop() {
            Some((open, _)) if open == opening => {
                self.operators.pop();
                self.at += 1;
                Ok(())
            }
            _ => Err(self.wrong(self.at, format!("unexpected {bracket:?}"))),
        }
    }

    fn operator(&mut self) -> Result<(), Error> {
        let two = ["==", "!=", "<=", ">=", "=~", "!~"];
        let len = if two.iter().any(|op| self.rest().starts_with(op)) { 2 } else { 1 };
        self.at += len;
        self.count_operator()
    }

    fn count_operator(&mut self) -> Result<(), Error> {
        if let Some(count) = self.operators.last_mut() {
            *count += 1;
        }
        self.check_depth()
    }

    fn check_depth(&self) -> Result<(), Error> {
        let depth = self.open.len() + self.operators.iter().sum::<usize>();
        if depth > DEPTH {
            return Err(Error::Limit(format!(
                "the query nests brackets and operators deeper than {DEPTH}; split it"
            )));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.skip_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let word = self.text.get(start..self.at).unwrap_or_default().to_ascii_lowercase();
        if self.duration_next && matches!(word.as_str(), "inf" | "nan") {
            return Err(self.wrong(start, "expected a duration"));
        }
        self.duration_next = word == "offset";
        match word.as_str() {
            "and" | "or" | "unless" | "atan2" => self.count_operator(),
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Result<(), Error> {
        let start = self.at;
        let mut before = ' ';
        let rest = self.text.get(start..).unwrap_or_default();
        for c in rest.chars() {
            let exponent_sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign) {
                break;
            }
            before = c;
            self.at += 1;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let in_brackets = self.open.last().is_some_and(|(bracket, _)| *bracket == '[');
        if (self.duration_next || in_brackets) && !is_duration(text) {
            return Err(self.wrong(start, format!("{text:?} is not a duration of 1ms to 100y")));
        }
        self.duration_next = false;
        Ok(())
    }
}

/// Durations are written with units, or as a number of seconds.
fn is_duration(text: &str) -> bool {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return hex.len() <= 8 && u32::from_str_radix(hex, 16).is_ok();
    }
    if let Ok(secs) = text.parse::<f64>() {
        return (0.001..=LONGEST_SECS).contains(&secs) || secs == 0.0;
    }
    rrd::time::parse_duration_ms(text).is_some_and(|millis| millis <= 100 * 366 * 86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_strings_must_close_and_the_place_is_named() {
        for (text, expected) in [
            ("sum(up", "1:4: parse error: unclosed '('"),
            ("up)", "1:3: parse error: unexpected ')'"),
            ("sum(\n  up]", "2:5: parse error: unexpected ']'"),
            ("\"abc", "1:1: parse error: unterminated quoted string"),
            ("\"a\\é\"", "1:4: parse error: unknown escape of 'é'"),
        ] {
            assert_eq!(check(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn durations_that_would_panic_the_parser_are_refused() {
        for bad in ["up[1e300]", "up offset 1e300", "up offset inf", "up offset -NaN", "up[5x]"] {
            assert!(matches!(check(bad), Err(Error::Parse { .. })), "{bad}");
        }
        for good in ["up[5m]", "up[1h30m] offset -1d", "up offset 300", "1e300", "up[5m:1m]"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn depth_counts_brackets_and_chains_of_operators() {
        let chain = |count: usize| vec!["1"; count].join("+");
        assert_eq!(check(&chain(DEPTH + 1)), Ok(()));
        assert!(matches!(check(&chain(DEPTH + 2)), Err(Error::Limit(_))));
        let nested = |count: usize| "(".repeat(count) + "1" + &")".repeat(count);
        assert_eq!(check(&nested(DEPTH)), Ok(()));
        assert!(matches!(check(&nested(DEPTH + 1)), Err(Error::Limit(_))));
        assert!(matches!(check(&"-".repeat(200)), Err(Error::Limit(_))));
        assert!(matches!(check(&" ".repeat(TEXT_BYTES + 1)), Err(Error::Limit(_))));
    }

    #[test]
    fn a_list_of_matchers_is_not_deep() {
        let many = (0..200).map(|n| format!("l{n}=\"x\"")).collect::<Vec<_>>().join(",");
        assert_eq!(check(&format!("up{{{many}}}")), Ok(()));
    }
}
