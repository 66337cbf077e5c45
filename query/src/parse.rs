//! Text to syntax tree, by promql-parser, kept from harm.

use std::panic::{AssertUnwindSafe, catch_unwind};

use promql_parser::parser::{self, Expr as Tree};

use crate::error::Position;
use crate::{Error, lower, scan};

/// The syntax tree of `text`.
pub(crate) fn parse(text: &str) -> Result<Tree, Error> {
    scan::check(text)?;
    // The parser is not ours: should it panic over a text, that is the asker's error, not our end.
    match catch_unwind(AssertUnwindSafe(|| parser::parse(text))) {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(message)) => Err(explain(text, message)),
        Err(_) => Err(Error::parse("the parser cannot read this text")),
    }
}

fn explain(text: &str, message: String) -> Error {
    if message.contains("holt_winters") {
        let name = "function holt_winters (double_exponential_smoothing)";
        return Error::unsupported(name, lower::function_names());
    }
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
    fn an_unknown_function_is_a_parse_error_and_an_old_alias_is_unsupported() {
        assert!(matches!(parse("frobnicate(up)"), Err(Error::Parse { .. })));
        assert!(matches!(parse("holt_winters(up[5m], 1, 1)"), Err(Error::Unsupported { .. })));
    }
}
