//! Text to syntax tree, by promql-parser, kept from harm.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use promql_parser::parser::function::{Function, register_extra_functions};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, Expr as Tree};

use crate::error::Position;
use crate::{Error, scan};

/// The syntax tree of `text`.
pub(crate) fn parse(text: &str) -> Result<Tree, Error> {
    scan::check(text)?;
    OLD_NAMES.call_once(register);
    // The parser is not ours: should it panic over a text, that is the asker's error, not our end.
    match catch_unwind(AssertUnwindSafe(|| parser::parse(text))) {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(message)) => Err(explain(text, message)),
        Err(_) => Err(Error::parse("the parser cannot read this text")),
    }
}

/// Names that functions had before Prometheus 3, which the parser is told once.
static OLD_NAMES: Once = Once::new();

fn register() {
    let arguments = vec![ValueType::Matrix, ValueType::Scalar, ValueType::Scalar];
    let name = "holt_winters";
    let function = Function::new(name, arguments, 0, ValueType::Vector, false);
    register_extra_functions(vec![function]).expect("the parser knows the new name alone");
}

fn explain(text: &str, message: String) -> Error {
    Error::Parse { at: place(text, &message), message }
}

/// The parser names the token it stumbled over, not its place; a token that occurs once has one.
fn place(text: &str, message: &str) -> Option<Position> {
    let token = message.split('\'').nth(1).filter(|token| !token.is_empty())?;
    let offset = text.find(token)?;
    (text.rfind(token) == Some(offset)).then(|| Position::of(text, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_place_when_the_token_is_unique() {
        let error = parse("sum(up{job=node})").unwrap_err();
        assert!(error.to_string().starts_with("1:12: parse error: "), "{error}");
        let error = parse("up up").unwrap_err();
        assert!(matches!(error, Error::Parse { .. }), "{error}");
    }

    #[test]
    fn an_unknown_function_is_a_parse_error_and_an_old_name_is_known() {
        assert!(matches!(parse("frobnicate(up)"), Err(Error::Parse { .. })));
        assert!(matches!(parse("holt_winters(up[5m])"), Err(Error::Parse { .. })));
        assert!(parse("holt_winters(up[5m], 1, 1)").is_ok());
    }
}
