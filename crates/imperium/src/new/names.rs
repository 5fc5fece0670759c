//! Lists the names that a module defines when it is imported, and how it defines them.

use super::source::{Statement, is_name, parentheses, split};

/// A name that a module defines, or another statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) what: What,
}

/// How a module defines a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `name = value`
    Assigned { name: String, value: String },
    /// `def name(parameters):`, with the statements of its body.
    Function { name: String, parameters: Vec<Parameter>, is_async: bool, body: Vec<String> },
    /// `class name:`, with the statements of its body.
    Class { name: String, body: Vec<String> },
    /// `from module import original as name`. `*` counts as a name.
    Imported { module: String, original: String, name: String },
    /// `import module`, or `import module as name`.
    Module { module: String },
    /// Any other statement that runs when the module is imported.
    Other { text: String },
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// How a parameter gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Required,
    Optional,
    /// A required keyword-only parameter.
    Named,
    /// `*args`
    Rest,
    /// `**keywords`
    Keywords,
}

/// Returns the module's own names, including those in `if`, `try` and `with`, but not those in `if __name__
/// == "__main__"`.
pub(crate) fn bindings(statements: &[Statement]) -> Vec<Binding> {
    let mut found = Vec::new();
    let mut hidden: Option<usize> = None;
    for (at, statement) in statements.iter().enumerate() {
        if hidden.is_some_and(|indent| statement.indent > indent) {
            continue;
        }
        hidden = is_hidden(&statement.text).then_some(statement.indent);
        let body = || body(&statements[at..]);
        found.extend(
            whats(&statement.text, body).into_iter().map(|what| Binding { line: statement.line, what }),
        );
    }
    found
}

/// Whether the statements below this one define no names of the module when it is imported.
fn is_hidden(statement: &str) -> bool {
    let is_program = statement.starts_with("if ")
        && (statement.contains("__name__") && statement.contains("__main__")
            || statement.contains("TYPE_CHECKING"))
        && !statement.contains("!=")
        && !statement.contains(" not ");
    is_program || ["def ", "async def ", "class "].iter().any(|it| statement.starts_with(it))
}

fn body(statements: &[Statement]) -> Vec<String> {
    let Some((first, rest)) = statements.split_first() else { return Vec::new() };
    rest.iter().take_while(|it| it.indent > first.indent).map(|it| it.text.clone()).collect()
}

fn whats(statement: &str, body: impl Fn() -> Vec<String>) -> Vec<What> {
    let plain = statement.strip_prefix("async ").unwrap_or(statement);
    if let Some(rest) = plain.strip_prefix("def ") {
        let Some((name, parameters)) = rest.split_once('(').zip(parentheses(rest)).map(|(a, b)| (a.0, b.0))
        else {
            return Vec::new();
        };
        let is_async = plain.len() != statement.len();
        return vec![What::Function {
            name: name.trim().to_owned(),
            parameters: self::parameters(parameters),
            is_async,
            body: body(),
        }];
    }
    if let Some(rest) = statement.strip_prefix("class ") {
        let name = rest.split(['(', ':', '[']).next().unwrap_or_default().trim().to_owned();
        return vec![What::Class { name, body: body() }];
    }
    if let Some((module, names)) = statement.strip_prefix("from ").and_then(|it| it.split_once(" import ")) {
        return imported(module.trim(), names);
    }
    if let Some(modules) = statement.strip_prefix("import ") {
        let module =
            |text: &str| What::Module { module: text.split(" as ").next().unwrap_or(text).trim().to_owned() };
        return modules.split(',').map(module).collect();
    }
    assigned(statement).unwrap_or_else(|| vec![What::Other { text: statement.to_owned() }])
}

fn imported(module: &str, names: &str) -> Vec<What> {
    let names = names.trim().trim_start_matches('(').trim_end_matches(')');
    let names = names.split(',').map(str::trim).filter(|it| !it.is_empty());
    let what = |text: &str| {
        let (original, name) = text.split_once(" as ").unwrap_or((text, text));
        What::Imported {
            module: module.to_owned(),
            original: original.trim().to_owned(),
            name: name.trim().to_owned(),
        }
    };
    names.map(what).collect()
}

/// Handles `a = b = value`, which assigns to both names, and `a: T = value`.
fn assigned(statement: &str) -> Option<Vec<What>> {
    let (mut names, mut value) = (Vec::new(), statement);
    while let Some((left, right)) = value.split_once('=') {
        let name = left.split(':').next().unwrap_or_default().trim();
        // A comparison, `+=`, or a keyword argument.
        if !is_name(name) || right.starts_with('=') {
            break;
        }
        names.push(name.to_owned());
        value = right.trim_start();
    }
    let what = |name| What::Assigned { name, value: value.to_owned() };
    (!names.is_empty()).then(|| names.into_iter().map(what).collect())
}

/// Parses `a, b: int = 1, /, *rest, c, **more`.
pub(crate) fn parameters(text: &str) -> Vec<Parameter> {
    let mut by_name = false;
    let mut found = Vec::new();
    for part in split(text, ',').into_iter().filter(|it| !it.is_empty() && *it != "/") {
        let name = part.split([':', '=']).next().unwrap_or_default().trim();
        let kind = match name {
            "*" => {
                by_name = true;
                continue;
            }
            _ if name.starts_with("**") => Kind::Keywords,
            _ if name.starts_with('*') => {
                by_name = true;
                Kind::Rest
            }
            _ if split(part, '=').len() > 1 => Kind::Optional,
            _ if by_name => Kind::Named,
            _ => Kind::Required,
        };
        found.push(Parameter { name: name.trim_start_matches('*').to_owned(), kind });
    }
    found
}

/// Whether a function can be called without arguments.
pub(crate) fn needs_nothing(parameters: &[Parameter]) -> bool {
    !parameters.iter().any(|it| matches!(it.kind, Kind::Required | Kind::Named))
}

/// Whether a function can be called with two arguments, as WSGI calls an app.
pub(crate) fn takes_two(parameters: &[Parameter]) -> bool {
    let count = |kind: Kind| parameters.iter().filter(|it| it.kind == kind).count();
    let (required, optional) = (count(Kind::Required), count(Kind::Optional));
    count(Kind::Named) == 0 && required <= 2 && (required + optional >= 2 || count(Kind::Rest) > 0)
}

/// Whether the first two parameters have WSGI's names: `environ, start_response`, or `env, start`.
pub(crate) fn named_as_wsgi(parameters: &[Parameter]) -> bool {
    let starts = |at: usize, with: &str| {
        parameters.get(at).is_some_and(|it| it.name.trim_start_matches('_').starts_with(with))
    };
    starts(0, "env") && starts(1, "start") && takes_two(parameters)
}

#[cfg(test)]
mod tests {
    use super::super::source::statements;
    use super::*;

    #[test]
    fn names_of_a_module() {
        let text = "\"\"\"app = 0\"\"\"\nfrom shop import site as app, other  # ours\nif True:\n    inner = 1\n\
                    application: Any = flask.Flask(\n  __name__)\na = b = 1\na == 2\na += 1\n\
                    async def create(\n    config: dict[str, int] = {}, *, x):\n    hidden = 1\n\
                    class App(Base):\n    def __call__(self, e, s): pass\n\
                    if __name__ == '__main__':\n    own = 1\nelse:\n    other = 2\n";
        let actual: Vec<_> =
            bindings(&statements(text)).into_iter().map(|it| (it.line, actual(&it.what))).collect();
        let expected = [
            (1, "other"),
            (2, "app of shop"),
            (2, "other of shop"),
            (3, "other"),
            (4, "inner = 1"),
            (5, "application = flask.Flask( __name__)"),
            (7, "a = 1"),
            (7, "b = 1"),
            (8, "other"),
            (9, "other"),
            (10, "create/2"),
            (13, "class App"),
            (15, "other"),
            (17, "other"),
            (18, "other = 2"),
        ];
        assert_eq!(actual, expected.map(|(line, text)| (line, text.to_owned())));
    }

    fn actual(what: &What) -> String {
        match what {
            What::Assigned { name, value } => format!("{name} = {value}"),
            What::Function { name, parameters, .. } => format!("{name}/{}", parameters.len()),
            What::Class { name, .. } => format!("class {name}"),
            What::Imported { module, name, .. } => format!("{name} of {module}"),
            What::Module { module } => format!("import {module}"),
            What::Other { .. } => "other".to_owned(),
        }
    }

    #[test]
    fn parameters_of_functions() {
        for (text, nothing, two, wsgi) in [
            ("", true, false, false),
            ("environ, start_response", false, true, true),
            ("env, start", false, true, true),
            ("environ: dict[str, Any], start_response: Callable[..., None],", false, true, true),
            ("a, b", false, true, false),
            ("a, b, c=1", false, true, false),
            ("a, b, c", false, false, false),
            ("*args, **kwargs", true, true, false),
            ("config=None", true, false, false),
            ("config", false, false, false),
            ("*, config", false, false, false),
            ("a, b, /", false, true, false),
        ] {
            let found = parameters(text);
            assert_eq!(
                (needs_nothing(&found), takes_two(&found), named_as_wsgi(&found)),
                (nothing, two, wsgi),
                "{text}"
            );
        }
    }
}
