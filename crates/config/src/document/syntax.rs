//! Explains why a text isn't TOML, in plain words.

use toml_edit::TomlError;

use crate::diagnostics::Wrong;

/// Explains an error without quoting the text.
pub(super) fn explain_secret(error: &TomlError) -> Wrong {
    match error.message() {
        "key with no value" => Wrong::new("the key has no value").hint("write `KEY = \"value\"`"),
        "duplicate key" => Wrong::new("the key is set a second time here").hint("keep one of the two"),
        _ => Wrong::new("this isn't TOML").hint("write `KEY = \"value\"`, with the value in quotes"),
    }
}

/// The parser's own message, or a better one for the most common mistakes.
pub(super) fn explain(error: &TomlError, text: &str) -> Wrong {
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, Some(expected).filter(|it| *it != "nothing")),
        None => (error.message(), None),
    };
    let at = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
    match message {
        "string values must be quoted" if at.is_empty() => Wrong::new("the value is missing"),
        "string values must be quoted" => {
            Wrong::new(format!("`{at}` isn't a value")).hint(format!("if it is a string, write \"{at}\""))
        }
        "key with no value" => Wrong::new("the key has no value").hint("write `key = value`"),
        "duplicate key" => {
            Wrong::new(format!("`{at}` is set a second time here")).hint("keep one of the two")
        }
        message => match expected {
            Some(expected) => Wrong::new(message).hint(format!("expected {expected}")),
            None => Wrong::new(message),
        },
    }
}
