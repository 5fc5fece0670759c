//! Reads Python's source as far as the names that a module has: nothing of the app is run.

/// How a module comes by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding<'a> {
    /// `name = value`
    Assigned { name: &'a str, value: &'a str },
    /// `def name(parameters`
    Function { name: &'a str, parameters: &'a str },
    /// `from module import name`, or `… as name`
    Imported { name: &'a str },
}

/// Each name of the module itself, with its line, counted from 1.
pub(crate) fn bindings(text: &str) -> impl Iterator<Item = (usize, Binding<'_>)> {
    statements(text).filter_map(|(line, statement)| Some((line, binding(statement)?)))
}

/// The lines that begin a statement of the module itself: not indented, in no text of several lines.
pub(crate) fn statements(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut open: Option<&str> = None;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let inside = open.is_some();
        open = quote_after(line, open);
        !inside && line.starts_with(|c: char| c == '_' || c.is_alphabetic())
    })
}

/// The triple quote that is open at the end of a line.
fn quote_after<'q>(line: &str, open: Option<&'q str>) -> Option<&'q str> {
    let mut open = open;
    let mut rest = line;
    while let Some((at, quote)) = next_quote(rest, open) {
        rest = &rest[at + quote.len()..];
        open = if open.is_some() { None } else { Some(quote) };
    }
    open
}

/// The next that opens, or the next that closes what is open.
fn next_quote<'q>(line: &str, open: Option<&'q str>) -> Option<(usize, &'q str)> {
    let quotes = match open {
        Some(quote) => [quote, quote],
        None => ["\"\"\"", "'''"],
    };
    quotes.into_iter().filter_map(|quote| Some((line.find(quote)?, quote))).min()
}

fn binding(statement: &str) -> Option<Binding<'_>> {
    if let Some(rest) = statement.strip_prefix("def ") {
        let (name, parameters) = rest.split_once('(')?;
        return Some(Binding::Function { name: name.trim(), parameters });
    }
    if let Some((_, imported)) = statement.strip_prefix("from ").and_then(|it| it.split_once(" import ")) {
        let imported = imported.split('#').next().unwrap_or_default().trim();
        let name = imported.rsplit_once(" as ").map_or(imported, |(_, name)| name);
        return is_name(name).then_some(Binding::Imported { name });
    }
    let (name, value) = statement.split_once('=').filter(|(_, value)| !value.starts_with('='))?;
    let name = name.split(':').next().unwrap_or_default().trim();
    is_name(name).then_some(Binding::Assigned { name, value: value.trim() })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
        && text.chars().all(|c| c == '_' || c.is_alphanumeric())
}

/// What `value` calls: the last name before its first `(`, as `Flask` of `flask.Flask(__name__)`.
pub(crate) fn callee(value: &str) -> Option<&str> {
    let (path, _) = value.split_once('(')?;
    let name = path.rsplit('.').next()?.trim();
    is_name(name).then_some(name)
}

/// Each text of a line, without its quotes: `["a", 'b']` has a and b.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_module() {
        let text = "\"\"\"An app.\n\napp = nothing\n\"\"\"\nfrom shop import site as app  # ours\n\
                    if True:\n    inner = 1\napplication: Any = flask.Flask(\n# app = 2\n\
                    def create_app(config=None):\nif a == b: pass\nx = '''\ny = 1\n'''; z\n";
        let expected = [
            (5, Binding::Imported { name: "app" }),
            (8, Binding::Assigned { name: "application", value: "flask.Flask(" }),
            (10, Binding::Function { name: "create_app", parameters: "config=None):" }),
            (12, Binding::Assigned { name: "x", value: "'''" }),
        ];
        assert_eq!(bindings(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn callees_and_strings() {
        assert_eq!(callee("flask.Flask(__name__)"), Some("Flask"));
        assert_eq!(callee("config.make_wsgi_app()"), Some("make_wsgi_app"));
        assert_eq!(callee("5"), None);
        assert_eq!(strings("[\"a\", 'b', \"c'd\"] + 'open").collect::<Vec<_>>(), ["a", "b", "c'd"]);
    }
}
