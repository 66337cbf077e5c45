//! Formulas in reverse Polish notation, row by row (rrdtool's CDEF).

use super::{ToolError, refuse};

/// Words of one formula; as many as a screen shows.
const MOST_WORDS: usize = 1000;

/// A formula, checked: evaluating it never runs out of stack.
#[derive(Debug)]
pub(super) struct Formula {
    words: Vec<Word>,
}

/// Where a formula is evaluated.
pub(super) struct At<'a> {
    /// Values of the variables in this row.
    pub(super) values: &'a [f64],
    /// The formula's own value in the row before; unknown in the first.
    pub(super) previous: f64,
    /// END of the row.
    pub(super) time_s: i64,
    /// Rows before and this one.
    pub(super) count: usize,
    pub(super) step_s: i64,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Number(f64),
    Variable(usize),
    Previous,
    Time,
    Count,
    StepWidth,
    Unary(Unary),
    Binary(Binary),
    If,
    Limit,
    Duplicate,
    Pop,
    Exchange,
}

type Unary = fn(f64) -> f64;
type Binary = fn(f64, f64) -> f64;

const UNARY: [(&str, Unary); 10] = [
    ("UN", |a| truth(a.is_nan())),
    ("ISINF", |a| truth(a.is_infinite())),
    ("ABS", f64::abs),
    ("FLOOR", f64::floor),
    ("CEIL", f64::ceil),
    ("SQRT", f64::sqrt),
    ("LOG", f64::ln),
    ("EXP", f64::exp),
    ("SIN", f64::sin),
    ("COS", f64::cos),
];

const BINARY: [(&str, Binary); 16] = [
    ("+", |a, b| a + b),
    ("-", |a, b| a - b),
    ("*", |a, b| a * b),
    ("/", |a, b| a / b),
    ("%", |a, b| a % b),
    ("POW", f64::powf),
    ("ADDNAN", |a, b| {
        if a.is_nan() {
            b
        } else if b.is_nan() {
            a
        } else {
            a + b
        }
    }),
    ("LT", |a, b| compared(a, b, a < b)),
    ("LE", |a, b| compared(a, b, a <= b)),
    ("GT", |a, b| compared(a, b, a > b)),
    ("GE", |a, b| compared(a, b, a >= b)),
    ("EQ", |a, b| compared(a, b, a.total_cmp(&b).is_eq() || a - b == 0.0)),
    ("NE", |a, b| compared(a, b, !(a.total_cmp(&b).is_eq() || a - b == 0.0))),
    ("MIN", |a, b| unless_unknown(a, b, a.min(b))),
    ("MAX", |a, b| unless_unknown(a, b, a.max(b))),
    ("ATAN2", f64::atan2),
];

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn compared(a: f64, b: f64, is: bool) -> f64 {
    unless_unknown(a, b, truth(is))
}

fn unless_unknown(a: f64, b: f64, value: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { value }
}

impl Formula {
    /// Reads a formula over these variables.
    pub(super) fn parse(text: &str, variables: &[&str]) -> Result<Self, ToolError> {
        let mut words = Vec::new();
        let mut depth = 0_usize;
        for word in text.split(',') {
            let Some(word) = Word::parse(word, variables) else {
                return refuse(format!("{text:?}: {word:?} is no number, variable or operator"));
            };
            let (takes, gives) = word.effect();
            if depth < takes {
                return refuse(format!("{text:?}: an operator lacks its operands"));
            }
            depth = depth - takes + gives;
            words.push(word);
        }
        if depth != 1 || words.len() > MOST_WORDS {
            return refuse(format!("{text:?}: a formula leaves one value, and this one {depth}"));
        }
        Ok(Self { words })
    }

    pub(super) fn value(&self, at: &At<'_>) -> f64 {
        let mut stack = Vec::with_capacity(self.words.len());
        for word in &self.words {
            word.act(&mut stack, at);
        }
        stack.pop().unwrap_or(f64::NAN)
    }
}

impl Word {
    fn parse(text: &str, variables: &[&str]) -> Option<Self> {
        if let Some(index) = variables.iter().position(|name| *name == text) {
            return Some(Self::Variable(index));
        }
        if let Some((_, act)) = UNARY.iter().find(|(name, _)| *name == text) {
            return Some(Self::Unary(*act));
        }
        if let Some((_, act)) = BINARY.iter().find(|(name, _)| *name == text) {
            return Some(Self::Binary(*act));
        }
        Some(match text {
            "IF" => Self::If,
            "LIMIT" => Self::Limit,
            "DUP" => Self::Duplicate,
            "POP" => Self::Pop,
            "EXC" => Self::Exchange,
            "PREV" => Self::Previous,
            "TIME" => Self::Time,
            "COUNT" => Self::Count,
            "STEPWIDTH" => Self::StepWidth,
            "UNKN" => Self::Number(f64::NAN),
            "INF" => Self::Number(f64::INFINITY),
            "NEGINF" => Self::Number(f64::NEG_INFINITY),
            number => Self::Number(number.parse().ok()?),
        })
    }

    /// How many values it takes from the stack, and how many it puts there.
    const fn effect(self) -> (usize, usize) {
        match self {
            Self::Number(_)
            | Self::Variable(_)
            | Self::Previous
            | Self::Time
            | Self::Count
            | Self::StepWidth => (0, 1),
            Self::Unary(_) => (1, 1),
            Self::Binary(_) => (2, 1),
            Self::If | Self::Limit => (3, 1),
            Self::Duplicate => (1, 2),
            Self::Pop => (1, 0),
            Self::Exchange => (2, 2),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "times and counts are far below 2^53")]
    fn act(self, stack: &mut Vec<f64>, at: &At<'_>) {
        let mut take = || stack.pop().unwrap_or(f64::NAN);
        let value = match self {
            Self::Number(number) => number,
            Self::Variable(index) => at.values.get(index).copied().unwrap_or(f64::NAN),
            Self::Previous => at.previous,
            Self::Time => at.time_s as f64,
            Self::Count => at.count as f64,
            Self::StepWidth => at.step_s as f64,
            Self::Unary(act) => act(take()),
            Self::Binary(act) => {
                let (b, a) = (take(), take());
                act(a, b)
            }
            Self::If => {
                let (otherwise, then, condition) = (take(), take(), take());
                if condition.is_nan() || condition == 0.0 { otherwise } else { then }
            }
            Self::Limit => {
                let (high, low, value) = (take(), take(), take());
                if (low..=high).contains(&value) { value } else { f64::NAN }
            }
            Self::Duplicate => stack.last().copied().unwrap_or(f64::NAN),
            Self::Pop => {
                take();
                return;
            }
            Self::Exchange => {
                let (b, a) = (take(), take());
                stack.push(b);
                a
            }
        };
        stack.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: f64) {
        let formula = Formula::parse(text, &["x", "u"]).unwrap();
        let at = At { values: &[6.0, f64::NAN], previous: 4.0, time_s: 60, count: 2, step_s: 30 };
        let got = formula.value(&at);
        assert!(
            got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
            "{text}: {got}"
        );
    }

    #[test]
    fn formulas_are_evaluated() {
        for (text, want) in [
            ("x", 6.0),
            ("x,2,-", 4.0),
            ("x,4,%", 2.0),
            ("x,2,/,1,+", 4.0),
            ("u,UN,0,x,IF", 0.0),
            ("x,UN,0,x,IF", 6.0),
            ("x,5,GT,x,5,LE,+", 1.0),
            ("x,6,EQ,x,6,NE,-", 1.0),
            ("x,6,GE,x,6,LT,-", 1.0),
            ("u,1,LT", f64::NAN),
            ("x,u,MIN", f64::NAN),
            ("x,7,MIN", 6.0),
            ("x,7,MAX", 7.0),
            ("x,u,ADDNAN", 6.0),
            ("x,DUP,*", 36.0),
            ("1,x,EXC,-", 5.0),
            ("x,1,POP", 6.0),
            ("PREV,x,+", 10.0),
            ("UNKN", f64::NAN),
            ("INF,NEGINF,GT", 1.0),
            ("INF,INF,EQ", 1.0),
            ("x,0,5,LIMIT", f64::NAN),
            ("TIME,COUNT,*,STEPWIDTH,+", 150.0),
        ] {
            check(text, want);
        }
    }

    #[test]
    fn what_is_no_formula_is_refused() {
        for text in ["", "x,+", "+", "x,x", "y", "x,POP", "x,,2,+", "1,2,IF"] {
            Formula::parse(text, &["x"]).unwrap_err();
        }
    }
}
