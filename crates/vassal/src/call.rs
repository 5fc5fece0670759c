//! Parses the arguments of a factory, such as `"prod", debug=False`: only Python literals, nothing that must
//! be evaluated.

/// Maximum nesting depth of lists, tuples and dictionaries.
const MAX_DEPTH: usize = 8;
/// Maximum length of the arguments, in bytes.
const MAX_BYTES: usize = 1000;

/// Keywords, which can't be parameter names (the language reference, section 2.3.1).
const RESERVED: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Why a text isn't a list of literal arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at `{at}`")]
pub(crate) struct CallError {
    what: &'static str,
    /// The beginning of the text from there on.
    at: String,
}

/// Checks the text between the parentheses of a call.
///
/// # Errors
///
/// Returns an error if it isn't a list of positional arguments followed by keyword arguments, each of them a
/// literal.
pub(crate) fn check_arguments(text: &str) -> Result<(), CallError> {
    let mut reader = Reader { rest: text };
    if text.len() > MAX_BYTES {
        return Err(reader.wrong("there are more than 1000 bytes of arguments"));
    }
    let mut keywords = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest.is_empty() {
            return Ok(());
        }
        match reader.keyword() {
            Some(name) if RESERVED.contains(&name) => {
                return Err(reader.wrong("a reserved word can't be a parameter"));
            }
            Some(name) if keywords.contains(&name) => {
                return Err(reader.wrong("the parameter was given before"));
            }
            Some(name) => keywords.push(name),
            None if !keywords.is_empty() => {
                return Err(reader.wrong("a positional argument follows one with a name"));
            }
            None => {}
        }
        reader.literal(0)?;
        reader.skip_space();
        if !reader.take(",") && !reader.rest.is_empty() {
            return Err(reader.wrong("a comma is missing"));
        }
    }
}

/// The remaining text.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Parses `name =`, if it is next.
    fn keyword(&mut self) -> Option<&'a str> {
        let length = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric())?;
        let (name, after) = self.rest.split_at(length);
        let value = after.trim_start_matches(' ').strip_prefix('=')?;
        if !name.starts_with(|c: char| c == '_' || c.is_alphabetic()) {
            return None;
        }
        self.rest = value.trim_start_matches(' ');
        Some(name)
    }

    fn literal(&mut self, depth: usize) -> Result<(), CallError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("there is too much nesting"));
        }
        self.skip_space();
        match self.rest.chars().next() {
            Some('"' | '\'') => self.string(),
            Some('[') => self.sequence(']', depth),
            Some('(') => self.sequence(')', depth),
            Some('{') => self.dictionary(depth),
            Some(c) if c == '-' || c == '.' || c.is_ascii_digit() => self.number(),
            _ => match ["True", "False", "None"].into_iter().any(|it| self.word(it)) {
                true => Ok(()),
                false => Err(self.wrong("a literal is missing (a string, a number, True, False, None, a list, a tuple or a dictionary)")),
            },
        }
    }

    /// Parses a quoted string on one line. Only escapes of a single character are allowed.
    fn string(&mut self) -> Result<(), CallError> {
        let quote = self.rest.chars().next().unwrap_or('"');
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => match characters.next() {
                    Some((_, '\\' | '\'' | '"' | 'n' | 'r' | 't')) => {}
                    _ => {
                        return Err(self.wrong_from(at, "only \\\\, \\', \\\", \\n, \\r and \\t are allowed"));
                    }
                },
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    // Python would concatenate it with the next string.
                    return match self.rest.trim_start_matches(' ').starts_with(['"', '\'']) {
                        true => Err(self.wrong("a comma is missing")),
                        false => Ok(()),
                    };
                }
                c if c.is_control() => return Err(self.wrong_from(at, "a control character is in a string")),
                _ => {}
            }
        }
        Err(self.wrong("a string isn't closed"))
    }

    /// Parses a decimal integer or fraction, possibly negative.
    fn number(&mut self) -> Result<(), CallError> {
        let unsigned = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let length = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, after) = unsigned.split_at(length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_whole = !whole.is_empty() && (whole == "0" || !whole.starts_with('0'));
        let ends = !after.starts_with(|c: char| c == '_' || c.is_alphanumeric());
        if !is_whole || fraction.is_empty() || fraction.contains('.') || !ends {
            return Err(self.wrong("a number must look like 12 or 1.5"));
        }
        self.rest = after;
        Ok(())
    }

    fn sequence(&mut self, end: char, depth: usize) -> Result<(), CallError> {
        self.items(end, |reader| reader.literal(depth + 1))
    }

    fn dictionary(&mut self, depth: usize) -> Result<(), CallError> {
        self.items('}', |reader| {
            // Mutable values can't be keys.
            if reader.rest.starts_with(['[', '{', '(']) {
                return Err(reader.wrong("a key must be a string, a number, True, False or None"));
            }
            reader.literal(depth + 1)?;
            reader.skip_space();
            if !reader.take(":") {
                return Err(reader.wrong("a `:` is missing"));
            }
            reader.literal(depth + 1)
        })
    }

    fn items(
        &mut self,
        end: char,
        item: impl Fn(&mut Self) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        self.rest = &self.rest[1..];
        loop {
            self.skip_space();
            if self.rest.starts_with(end) {
                self.rest = &self.rest[1..];
                return Ok(());
            }
            item(self)?;
            self.skip_space();
            if !self.take(",") && !self.rest.starts_with(end) {
                return Err(self.wrong("a comma or a closing bracket is missing"));
            }
        }
    }

    /// Parses a whole word.
    fn word(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(after) if !after.starts_with(|c: char| c == '_' || c.is_alphanumeric()) => {
                self.rest = after;
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    fn wrong(&self, what: &'static str) -> CallError {
        self.wrong_from(0, what)
    }

    fn wrong_from(&self, at: usize, what: &'static str) -> CallError {
        CallError { what, at: self.rest[at..].chars().take(20).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        for good in [
            "",
            " ",
            "\"prod\"",
            "'prod', debug=False",
            "config='a, b) = c', n = -1, x=1.5,",
            r#""a\"b\\", 'ü'"#,
            "[1, 'a', None], (1,), (), {}, {'a': {1: [True]}}",
            "url='redis://cache:6379/0'",
        ] {
            assert_eq!(check_arguments(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn anything_but_literals_is_refused() {
        let literal =
            "a literal is missing (a string, a number, True, False, None, a list, a tuple or a dictionary)";
        for (bad, expected) in [
            ("config", format!("{literal} at `config`")),
            ("os.environ['A']", format!("{literal} at `os.environ['A']`")),
            ("f()", format!("{literal} at `f()`")),
            ("f'{x}'", format!("{literal} at `f'{{x}}'`")),
            ("debug=true", format!("{literal} at `true`")),
            ("Nonesuch", format!("{literal} at `Nonesuch`")),
            ("*[1]", format!("{literal} at `*[1]`")),
            (",", format!("{literal} at `,`")),
            ("{'a': b}", format!("{literal} at `b}}`")),
            ("a=1, 2", "a positional argument follows one with a name at `2`".to_owned()),
            ("a=1, a=2", "the parameter was given before at `2`".to_owned()),
            ("class=1", "a reserved word can't be a parameter at `1`".to_owned()),
            ("'a' 'b'", "a comma is missing at ` 'b'`".to_owned()),
            ("1 + 1", "a comma is missing at `+ 1`".to_owned()),
            ("'a", "a string isn't closed at `'a`".to_owned()),
            (r"'\x41'", r#"only \\, \', \", \n, \r and \t are allowed at `\x41'`"#.to_owned()),
            ("0x10", "a number must look like 12 or 1.5 at `0x10`".to_owned()),
            ("007", "a number must look like 12 or 1.5 at `007`".to_owned()),
            ("1.", "a number must look like 12 or 1.5 at `1.`".to_owned()),
            ("{[]: 1}", "a key must be a string, a number, True, False or None at `[]: 1}`".to_owned()),
            ("[1", "a comma or a closing bracket is missing at ``".to_owned()),
            ("1), x", "a comma is missing at `), x`".to_owned()),
        ] {
            assert_eq!(check_arguments(bad).unwrap_err().to_string(), expected, "{bad}");
        }
        assert!(
            check_arguments(&"[".repeat(100))
                .unwrap_err()
                .to_string()
                .starts_with("there is too much nesting")
        );
        assert!(check_arguments(&" ".repeat(2000)).is_err());
    }
}
