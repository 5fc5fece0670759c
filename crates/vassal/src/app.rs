//! The name of an app's callable: `module:callable`, `file.py:callable`, a factory, `module:create("prod")`,
//! or a Paste `.ini` file.

use std::fmt;
use std::path::Path;

use config::Wrong;

use crate::call::check_arguments;

/// What to import, and which of its names to call.
///
/// Displayed in the form that the worker gets: `module:callable`, `module:factory(arguments)`, or just
/// `module`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// What to import.
    pub target: Target,
    /// The app within it.
    pub callable: Callable,
}

/// The app within a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callable {
    /// `application`, otherwise `app`. `main` in a Paste file.
    Usual,
    /// A name in the module, possibly dotted, or the name of a section of a Paste file.
    Name(String),
    /// A function that returns the app.
    Factory {
        /// The function's name, possibly dotted.
        name: String,
        /// The arguments in Python syntax: only literals, as checked by the parser. Empty if there are none.
        arguments: String,
    },
}

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of `sys.path`, such as `blog.wsgi`.
    Module(String),
    /// A Python file, relative to the app's directory. It ends in `.py`, or it ends in `.wsgi` and contains a
    /// slash.
    File(String),
    /// A Paste file, which ends in `.ini`, relative to the app's directory.
    Paste(String),
}

impl App {
    /// Parses `module:callable` or `file.py:callable`, with optional arguments in parentheses, or without the
    /// callable, or `production.ini`, optionally with `:name`.
    ///
    /// # Errors
    ///
    /// Returns an error if the module or the callable isn't a Python name, or an argument isn't a literal.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let (target, callable) = split(text);
        let callable = callable.map_or(Ok(Callable::Usual), Callable::parse)?;
        let target = Target::parse(target)?;
        if let (Target::Paste(file), Callable::Factory { name, .. }) = (&target, &callable) {
            let wrong =
                Wrong::new(format!("calls `{name}` of the Paste file {file}, which has no functions"));
            return Err(wrong.hint(format!("write \"{file}\", or \"{file}:NAME\" for its [app:NAME]")));
        }
        Ok(Self { target, callable })
    }

    /// Distinguishes the file `site.wsgi` from a module of that name, which the text alone can't: the module
    /// takes precedence.
    ///
    /// The file is displayed as `./site.wsgi`, so that the worker doesn't have to look.
    pub(crate) fn in_directory(self, directory: &Path) -> Self {
        let is_file = |name: &str| {
            let module = directory.join(name.replace('.', "/"));
            name.ends_with(".wsgi")
                && directory.join(name).is_file()
                && !module.is_dir()
                && !module.with_extension("py").is_file()
        };
        match self.target {
            Target::Module(name) if is_file(&name) => {
                Self { target: Target::File(format!("./{name}")), ..self }
            }
            target => Self { target, ..self },
        }
    }
}

/// Splits at the last `:` that isn't within the arguments of a call, where it may be part of a string.
fn split(text: &str) -> (&str, Option<&str>) {
    let call = text.strip_suffix(')').and_then(|_| text.find('('));
    let name = &text[..call.unwrap_or(text.len())];
    match name.rfind(':') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let example = "write for example \"blog.wsgi:application\" or \"app.py:app\"";
        let is_file =
            |end: &str| text.strip_suffix(end).is_some_and(|stem| !stem.is_empty() && !stem.ends_with('/'));
        if is_file(".py") || is_file(".wsgi") && text.contains('/') {
            return Ok(Self::File(text.to_owned()));
        }
        if is_file(".wsgi") && !is_dotted_name(text) {
            return Ok(Self::File(format!("./{text}")));
        }
        if is_file(".ini") {
            return Ok(Self::Paste(text.to_owned()));
        }
        if text.contains('/') {
            let wrong =
                format!("must name a module or a file that ends in `.py`, `.wsgi` or `.ini`, not \"{text}\"");
            return Err(Wrong::new(wrong).hint(example));
        }
        match is_dotted_name(text) {
            true => Ok(Self::Module(text.to_owned())),
            false => Err(Wrong::new(format!("must name a Python module, but \"{text}\" isn't a valid name"))
                .hint(example)),
        }
    }
}

impl Callable {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let call = text.strip_suffix(')').and_then(|it| it.split_once('('));
        let name = call.map_or(text, |(name, _)| name);
        if !is_dotted_name(name) {
            return Err(Wrong::new(format!(
                "must name a callable after the `:`, but \"{text}\" isn't a valid name"
            ))
            .hint("write for example \"blog.wsgi:application\""));
        }
        let Some((_, arguments)) = call else { return Ok(Self::Name(text.to_owned())) };
        let arguments = arguments.trim_matches(' ').to_owned();
        check_arguments(&arguments).map_err(|error| {
            Wrong::new(format!("must call `{name}` with literals only, but {error}")).hint(format!(
                "write for example \"{name}('prod', debug=False)\", or pass what it needs in [env]"
            ))
        })?;
        Ok(Self::Factory { name: name.to_owned(), arguments })
    }
}

/// Identifiers separated by dots (the language reference, section 2.3).
pub(crate) fn is_dotted_name(text: &str) -> bool {
    let first = |c: char| c == '_' || c.is_alphabetic();
    let is_identifier =
        |part: &str| part.starts_with(first) && part.chars().all(|c| c == '_' || c.is_alphanumeric());
    text.split('.').all(is_identifier)
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Target::Module(target) | Target::File(target) | Target::Paste(target)) = &self.target;
        f.write_str(target)?;
        match &self.callable {
            Callable::Usual => Ok(()),
            Callable::Name(name) => write!(f, ":{name}"),
            Callable::Factory { name, arguments } => write!(f, ":{name}({arguments})"),
        }
    }
}
