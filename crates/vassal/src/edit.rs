//! Writes the number of workers into an app file, and keeps all other bytes.

use toml_edit::{Document, Item, Table};

use crate::{MAX_WORKERS, Vassal};

/// Why the number of workers can't be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetWorkersError {
    /// The number is out of range.
    #[error("{0} workers aren't possible: choose a number from 1 to {MAX_WORKERS}")]
    Count(u32),
    /// The text isn't TOML, so nothing can be written into it safely. The parser's message isn't included,
    /// since it would show the line, which may contain a secret.
    #[error("the file isn't TOML: correct it first; `imperium check` says what is wrong")]
    Syntax,
    /// The file uses the key for something else.
    #[error("`workers` is a table in the file: correct it first")]
    Table,
}

impl Vassal {
    /// Returns the text with `workers = count`. Comments, order and spacing are kept.
    ///
    /// # Errors
    ///
    /// Returns an error if `count` is out of range, if the text isn't TOML, or if `workers` is a table.
    pub fn set_workers(text: &str, count: u32) -> Result<String, SetWorkersError> {
        if count == 0 || count > u32::from(MAX_WORKERS) {
            return Err(SetWorkersError::Count(count));
        }
        let document = Document::parse(text).map_err(|_| SetWorkersError::Syntax)?;
        match document.get("workers") {
            Some(Item::Value(value)) => {
                let span = value.span().ok_or(SetWorkersError::Table)?;
                Ok(format!("{}{count}{}", &text[..span.start], &text[span.end..]))
            }
            Some(_) => Err(SetWorkersError::Table),
            None => Ok(insert_line(text, &document, &format!("workers = {count}"))),
        }
    }
}

/// Inserts a line below the last key before any table.
fn insert_line(text: &str, root: &Table, line: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let ends = root.iter().filter_map(|(_, item)| Some(item.as_value()?.span()?.end));
    let Some(end) = ends.max() else { return format!("{line}{newline}{text}") };
    let at = text[end..].find(newline).map_or(text.len(), |newline| end + newline);
    format!("{}{newline}{line}{}", &text[..at], &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Vassal::set_workers(text, 5).unwrap(), expected);
    }

    #[test]
    fn everything_else_is_kept() {
        check("# a\nworkers=2 # two\n\n[env]\nA = 'b'\n", "# a\nworkers=5 # two\n\n[env]\nA = 'b'\n");
        check("workers = \"two\"", "workers = 5");
        check("workers = 12\r\napp = 'x'\r\n", "workers = 5\r\napp = 'x'\r\n");
        check("\u{feff}workers = 12", "\u{feff}workers = 5");
    }

    #[test]
    fn a_missing_key_is_added_above_the_tables() {
        check("app = 'x' # x\n\n[env] # e\nA = 'b'", "app = 'x' # x\nworkers = 5\n\n[env] # e\nA = 'b'");
        check("a = [\n  1,\n]\r\nb.c = 1\r\n", "a = [\n  1,\n]\r\nworkers = 5\r\nb.c = 1\r\n");
        check("app = 'x'", "app = 'x'\nworkers = 5");
        check("[env]\n", "workers = 5\n[env]\n");
        check("", "workers = 5\n");
    }

    #[test]
    fn errors() {
        let message = |text: &str, count| Vassal::set_workers(text, count).unwrap_err().to_string();
        assert_eq!(message("", 0), "0 workers aren't possible: choose a number from 1 to 1000");
        assert_eq!(message("", 1001), "1001 workers aren't possible: choose a number from 1 to 1000");
        assert_eq!(
            message("workers", 3),
            "the file isn't TOML: correct it first; `imperium check` says what is wrong"
        );
        assert_eq!(message("[workers]", 3), "`workers` is a table in the file: correct it first");
    }
}
