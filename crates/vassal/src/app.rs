//! Names the callable that answers: `module:callable` or `file.py:callable`.

use std::fmt;

use config::Wrong;

/// What to import, and which of its names to call.
///
/// Displayed as the worker is told it: `module:callable`, or `module` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// What to import.
    pub target: Target,
    /// A name in it, or names with dots between; None is `application`, and `app` where that is not there.
    pub callable: Option<String>,
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
    /// Parses `module:callable`, `file.py:callable`, or either without its callable.
    ///
    /// # Errors
    /// When the module or the callable is no name of Python's.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let (target, callable) = match text.rsplit_once(':') {
            Some((target, callable)) => (target, Some(callable)),
            None => (text, None),
        };
        let callable = callable.map(parse_callable).transpose()?;
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

fn parse_callable(text: &str) -> Result<String, Wrong> {
    if is_dotted_name(text) {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::new(format!("must name a callable after the `:`, which \"{text}\" is not"));
    Err(match text.strip_suffix("()") {
        Some(name) => {
            wrong.cure(format!("write \"{name}\" if that is the app, or name a variable that holds one"))
        }
        None => wrong.cure("write such as \"blog.wsgi:application\""),
    })
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
        self.callable.as_ref().map_or(Ok(()), |callable| write!(f, ":{callable}"))
    }
}
