//! Splits Python source into statements, without running it.

/// A logical line (section 2.1 of Python's language reference): without comments, and with bracketed lines
/// joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The line it starts at, counted from 1.
    pub(crate) line: usize,
    /// The number of columns before it.
    pub(crate) indent: usize,
    pub(crate) text: String,
}

/// Returns all statements, in order.
pub(crate) fn statements(text: &str) -> Vec<Statement> {
    let mut lines = Lines::default();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        lines.take(number, line);
    }
    lines.finish()
}

#[derive(Default)]
struct Lines {
    done: Vec<Statement>,
    open: Option<Statement>,
    brackets: usize,
    /// The quote of a string that continues on the next line.
    quote: Option<&'static str>,
}

impl Lines {
    fn take(&mut self, line: usize, text: &str) {
        let content = text.trim_start_matches([' ', '\t', '\u{c}']);
        if self.open.is_none() {
            if content.is_empty() || content.starts_with('#') {
                return;
            }
            let indent =
                text[..text.len() - content.len()].chars().map(|c| if c == '\t' { 8 } else { 1 }).sum();
            self.open = Some(Statement { line, indent, text: String::new() });
        }
        let text = if self.quote.is_some() { text } else { content };
        let (kept, goes_on) = self.scan(text);
        if let Some(open) = &mut self.open {
            if !open.text.is_empty() {
                open.text.push(' ');
            }
            open.text.push_str(kept.trim_end());
        }
        if !goes_on && self.brackets == 0 && self.quote.is_none() {
            self.done.extend(self.open.take());
        }
    }

    /// Returns the text without its comment, and whether a backslash joins the next line.
    fn scan<'t>(&mut self, text: &'t str) -> (&'t str, bool) {
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            if let Some(quote) = self.quote {
                if c == '\\' {
                    at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8);
                } else if text[at..].starts_with(quote) {
                    at += quote.len();
                    self.quote = None;
                } else {
                    at += c.len_utf8();
                }
                continue;
            }
            match c {
                '#' => return (&text[..at], false),
                '"' | '\'' => {
                    let quotes = ["\"\"\"", "'''", "\"", "'"];
                    self.quote = quotes.into_iter().find(|quote| text[at..].starts_with(quote));
                    at += self.quote.map_or(1, str::len);
                    continue;
                }
                '(' | '[' | '{' => self.brackets += 1,
                ')' | ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
                '\\' if text[at..].trim_end() == "\\" => return (&text[..at], true),
                _ => {}
            }
            at += c.len_utf8();
        }
        // Only triple-quoted strings span several lines.
        self.quote = self.quote.filter(|quote| quote.len() == 3);
        (text, false)
    }

    fn finish(mut self) -> Vec<Statement> {
        self.done.extend(self.open.take());
        self.done
    }
}

/// Splits at a separator outside of brackets and strings.
pub(crate) fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut depth, mut quote) = (0, 0_usize, None);
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(characters.next()),
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, _) if c == separator && depth == 0 => {
                parts.push(text[begin..at].trim());
                begin = at + c.len_utf8();
            }
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    parts.push(text[begin..].trim());
    parts
}

/// Returns the text between the first `(` and its matching `)`, and the text after it.
pub(crate) fn parentheses(text: &str) -> Option<(&str, &str)> {
    let begin = text.find('(')? + 1;
    let (mut depth, mut quote) = (1_usize, None);
    let mut characters = text[begin..].char_indices();
    while let Some((at, c)) = characters.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(characters.next()),
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            return Some((&text[begin..begin + at], &text[begin + at + 1..]));
        }
    }
    None
}

/// Returns what `value` calls: the last name before the first `(`, such as `Flask` in
/// `flask.Flask(__name__)`.
pub(crate) fn callee(value: &str) -> Option<&str> {
    let (path, _) = value.split_once('(')?;
    let name = path.rsplit('.').next()?.trim();
    is_name(name).then_some(name)
}

/// Returns all string literals in a line, without their quotes: a and b for `["a", 'b']`.
pub(crate) fn strings(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(['"', '\''])?;
        let quote = &rest[start..=start];
        let (text, after) = rest[start + 1..].split_once(quote)?;
        rest = after;
        Some(text)
    })
}

pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
        && text.chars().all(|c| c == '_' || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_lines() {
        let text = "\"\"\"An app.\n\napp = nothing\n\"\"\"\nx = f(1,  # one\n      2)\nif a and \\\n   b:\n    y = '#'  # c\n\
                    \tz = '''\n  w = 1\n'''\n# end\nlast = 'it\\'s'";
        let expected = [
            (1, 0, "\"\"\"An app.  app = nothing \"\"\""),
            (5, 0, "x = f(1, 2)"),
            (7, 0, "if a and b:"),
            (9, 4, "y = '#'"),
            (10, 8, "z = '''   w = 1 '''"),
            (14, 0, "last = 'it\\'s'"),
        ];
        let found: Vec<_> = statements(text);
        let found: Vec<_> = found.iter().map(|it| (it.line, it.indent, it.text.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!(statements("x = (\n1").len(), 1);
        assert_eq!(statements("\u{feff}x = 1")[0].text, "x = 1");
    }

    #[test]
    fn parts() {
        assert_eq!(
            split("a: Callable[[str], int], b=(1, 2), c=','", ','),
            ["a: Callable[[str], int]", "b=(1, 2)", "c=','"]
        );
        assert_eq!(split("", ','), [""]);
        assert_eq!(parentheses("def f(a=')', b=(1,)) -> int:"), Some(("a=')', b=(1,)", " -> int:")));
        assert_eq!(parentheses("f(a"), None);
    }

    #[test]
    fn callees_and_strings() {
        assert_eq!(callee("flask.Flask(__name__)"), Some("Flask"));
        assert_eq!(callee("config.make_wsgi_app()"), Some("make_wsgi_app"));
        assert_eq!(callee("5"), None);
        assert_eq!(strings("[\"a\", 'b', \"c'd\"] + 'open").collect::<Vec<_>>(), ["a", "b", "c'd"]);
    }
}
