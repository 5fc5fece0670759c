//! Evaluates simple path expressions of Python, such as `BASE_DIR / "static"` and `os.path.join(…)`.

use std::path::{Path, PathBuf};

use super::names::What;
use super::project::Module;
use super::source::{is_name, parentheses, split};

/// How deep names and calls may be nested.
const MAX_DEPTH: usize = 20;

/// Returns the path that an expression of `module` evaluates to. None if it can't be known without running
/// it.
///
/// Names are looked up in `modules`, in which earlier ones override later ones. If none of them defines the
/// project's base folder, `folder` is used.
pub(crate) fn path(expression: &str, module: &Module, modules: &[Module], folder: &Path) -> Option<PathBuf> {
    Looked { modules, folder }.path(expression, module, 0).map(|it| normal(&it))
}

struct Looked<'a> {
    modules: &'a [Module],
    folder: &'a Path,
}

impl Looked<'_> {
    fn path(&self, expression: &str, module: &Module, depth: usize) -> Option<PathBuf> {
        let expression = unwrapped(expression);
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(text) = literal(expression) {
            return Some(self.folder.join(text));
        }
        let parts = split(expression, '/');
        if let [left @ .., _] = parts.as_slice()
            && let Some((first, rest)) = left.split_first()
        {
            let rest = rest.iter().chain(parts.last());
            let begin = self.path(first, module, depth + 1)?;
            return rest.map(|it| literal(it)).try_fold(begin, |path, part| Some(path.join(part?)));
        }
        if let [left, right] = split(expression, '+').as_slice() {
            let end = literal(right)?.strip_prefix('/')?;
            return Some(self.path(left, module, depth + 1)?.join(end));
        }
        self.attribute(expression, module, depth)
            .or_else(|| self.call(expression, module, depth))
            .or_else(|| self.name(expression, module, depth))
    }

    /// Evaluates `X.parent`, `X.parents[1]`, `X.resolve()` and `X.joinpath("a")`.
    fn attribute(&self, expression: &str, module: &Module, depth: usize) -> Option<PathBuf> {
        let parts = split(expression, '.');
        let (last, _) = parts.split_last()?;
        let before = expression[..expression.len() - last.len()].trim_end().strip_suffix('.')?;
        let of = || self.path(before, module, depth + 1);
        let name = last.split(['(', '[']).next()?;
        match name {
            "parent" => Some(of()?.parent()?.to_owned()),
            "parents" => {
                let number: usize = last.strip_prefix("parents[")?.strip_suffix(']')?.trim().parse().ok()?;
                Some(of()?.ancestors().nth(number + 1)?.to_owned())
            }
            "resolve" | "absolute" | "as_posix" | "expanduser" => of(),
            "joinpath" => {
                let (inside, _) = parentheses(last)?;
                split(inside, ',')
                    .into_iter()
                    .map(literal)
                    .try_fold(of()?, |path, part| Some(path.join(part?)))
            }
            _ => None,
        }
    }

    fn call(&self, expression: &str, module: &Module, depth: usize) -> Option<PathBuf> {
        let (inside, after) = parentheses(expression)?;
        if !after.trim().is_empty() {
            return None;
        }
        let arguments = split(inside, ',');
        let first = || self.path(arguments.first()?, module, depth + 1);
        let called = expression.split_once('(')?.0.trim();
        match called.rsplit('.').next()? {
            "Path" | "PurePath" | "str" | "abspath" | "realpath" | "normpath" | "fspath" | "expanduser" => {
                first()
            }
            "dirname" => Some(first()?.parent()?.to_owned()),
            "join" => {
                let rest = arguments.iter().skip(1).filter(|it| !it.is_empty());
                rest.map(|it| literal(it)).try_fold(first()?, |path, part| Some(path.join(part?)))
            }
            _ => None,
        }
    }

    fn name(&self, name: &str, module: &Module, depth: usize) -> Option<PathBuf> {
        if name == "__file__" {
            return Some(module.path.clone());
        }
        let name = name.rsplit('.').next().filter(|it| is_name(it))?;
        match lookup(self.modules, name) {
            Some((module, value)) => self.path(value, module, depth + 1),
            None => ["BASE_DIR", "ROOT_DIR", "PROJECT_ROOT", "PROJECT_DIR", "BASE_PATH"]
                .contains(&name)
                .then(|| self.folder.to_owned()),
        }
    }
}

/// Returns the value that a name is set to. As in Python, the last assignment counts.
pub(crate) fn lookup<'m>(modules: &'m [Module], wanted: &str) -> Option<(&'m Module, &'m str)> {
    modules.iter().find_map(|module| {
        let mut values = module.bindings().iter().filter_map(|it| match &it.what {
            What::Assigned { name, value } if name == wanted => Some(value.as_str()),
            _ => None,
        });
        Some((module, values.next_back()?))
    })
}

/// Returns the text of a string literal that has no escapes.
pub(crate) fn literal(expression: &str) -> Option<&str> {
    let text = expression.trim().trim_start_matches(['r', 'u']);
    let quote = text.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inside.contains([quote, '\\'])).then_some(inside)
}

/// Removes parentheses around the whole expression.
fn unwrapped(expression: &str) -> &str {
    let mut inner = expression.trim();
    while inner.starts_with('(') {
        match parentheses(inner) {
            Some((inside, "")) => inner = inside.trim(),
            _ => break,
        }
    }
    inner
}

/// Resolves `..`, as in `os.path.join(BASE_DIR, "..", "static")`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(normal.pop()),
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let text = "BASE_DIR = Path(__file__).resolve(strict=True).parent.parent\nAPPS = BASE_DIR / 'apps'\n\
                    OLD = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\nLOOP = LOOP\n";
        let modules =
            [Module::new("/srv/shop/config/base.py".into(), "config/base.py".into(), text.to_owned())];
        for (expression, expected) in [
            ("BASE_DIR / \"public\" / 'static'", Some("/srv/shop/public/static")),
            ("str(BASE_DIR / 'static')", Some("/srv/shop/static")),
            ("str(APPS / \"static\")", Some("/srv/shop/apps/static")),
            ("os.path.join(OLD, 'a', 'b')", Some("/srv/shop/a/b")),
            ("os.path.join(OLD, '..', 'b')", Some("/srv/b")),
            ("Path(__file__).parents[1].joinpath('x')", Some("/srv/shop/x")),
            ("(BASE_DIR / 'x')", Some("/srv/shop/x")),
            ("OLD + '/x'", Some("/srv/shop/x")),
            ("'/var/www/s'", Some("/var/www/s")),
            ("'static'", Some("/srv/static")),
            ("PROJECT_ROOT / 'x'", Some("/srv/x")),
            ("os.environ['STATIC']", None),
            ("config('STATIC', 'static')", None),
            ("BASE_DIR / env('X')", None),
            ("LOOP", None),
            ("", None),
        ] {
            let found = path(expression, &modules[0], &modules, Path::new("/srv"));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{expression}");
        }
    }
}
