//! Names the callable that answers: `module:callable`, `file.py:callable`, or a factory, `module:create()`.

use std::fmt;

use config::Wrong;

/// What to import, and which of its names to call.
///
/// Displayed as the worker is told it: `module:callable`, `module:factory()`, or `module` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// What to import.
    pub target: Target,
    /// What in it answers.
    pub callable: Callable,
}

/// What in a module answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callable {
    /// `application`, and `app` where that is not there.
    Usual,
    /// A name in it, or names with dots between.
    Name(String),
    /// The same, of a function that returns the app when it is called without arguments.
    Factory(String),
}

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of `sys.path`, such as `blog.wsgi`.
    Module(String),
    /// A file that ends in `.py`; relative to the app's directory.
    File(String),
}

impl App {
    /// Parses `module:callable`, `file.py:callable`, either with `()` at the end, or without its callable.
    ///
    /// # Errors
    /// When the module or the callable is no name of Python's.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let (target, callable) = match text.rsplit_once(':') {
            Some((target, callable)) => (target, Some(callable)),
            None => (text, None),
        };
        let callable = callable.map_or(Ok(Callable::Usual), Callable::parse)?;
        Ok(Self { target: Target::parse(target)?, callable })
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let example = "write such as \"blog.wsgi:application\" or \"app.py:app\"";
        match text.strip_suffix(".py") {
            Some(stem) if !stem.is_empty() && !stem.ends_with('/') => Ok(Self::File(text.to_owned())),
            None if is_dotted_name(text) => Ok(Self::Module(text.to_owned())),
            None if text.contains('/') => {
                Err(Wrong::new(format!("must name a module or a file that ends in `.py`, not \"{text}\""))
                    .cure(example))
            }
            _ => Err(Wrong::new(format!("must name a Python module, which \"{text}\" is not")).cure(example)),
        }
    }
}

impl Callable {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (name, kind): (&str, fn(String) -> Self) = match text.strip_suffix("()") {
            Some(name) => (name, Self::Factory),
            None => (text, Self::Name),
        };
        if is_dotted_name(name) {
            return Ok(kind(name.to_owned()));
        }
        let wrong = Wrong::new(format!("must name a callable after the `:`, which \"{text}\" is not"));
        Err(match name.split_once('(') {
            Some((name, _)) => wrong.cure(format!(
                "write \"{name}()\": a factory is called without arguments; \
                 pass what it needs in [env]"
            )),
            None => wrong.cure("write such as \"blog.wsgi:application\""),
        })
    }
}

/// Identifiers with dots between (the language reference, section 2.3).
fn is_dotted_name(text: &str) -> bool {
    let first = |c: char| c == '_' || c.is_alphabetic();
    let is_identifier =
        |part: &str| part.starts_with(first) && part.chars().all(|c| c == '_' || c.is_alphanumeric());
    text.split('.').all(is_identifier)
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Target::Module(target) | Target::File(target)) = &self.target;
        f.write_str(target)?;
        match &self.callable {
            Callable::Usual => Ok(()),
            Callable::Name(name) => write!(f, ":{name}"),
            Callable::Factory(name) => write!(f, ":{name}()"),
        }
    }
}
