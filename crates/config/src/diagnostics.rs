//! Diagnostics of a file: what is wrong, where, and how to fix it, for logs and terminals.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// All problems of one file, in the order of its lines. Never empty.
///
/// Displayed as one line each: ``/etc/…/blog.toml:5:1: unknown key `wokers`: did you mean `workers`?``
#[derive(Clone, Debug)]
pub struct Diagnostics(Vec<Problem>);

/// A problem of a file. As a [`miette::Diagnostic`], it shows the line in question.
#[derive(Clone, Debug)]
pub struct Problem {
    path: PathBuf,
    /// `None` if the problem concerns the whole file.
    location: Option<Location>,
    wrong: Wrong,
}

/// Where a problem is.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// The text to show.
    pub(crate) source: Arc<NamedSource<String>>,
    /// In bytes.
    pub(crate) span: Range<usize>,
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
}

/// What is wrong and how to fix it, without the location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    message: String,
    hint: Option<String>,
}

const MAX_MESSAGE_BYTES: usize = 1000;

impl Wrong {
    /// Describes what is wrong. The message of a value parser continues a sentence that starts with the key:
    /// ``must be a whole number, not a string``.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: shortened(message.into()), hint: None }
    }

    /// Adds a hint about how to fix it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shortened(hint.into()));
        self
    }

    /// Adds a hint, if there is none yet.
    #[must_use]
    pub(crate) fn or_hint(self, hint: impl FnOnce() -> String) -> Self {
        if self.hint.is_none() { self.hint(hint()) } else { self }
    }

    /// Prepends the subject of the sentence.
    #[must_use]
    pub fn of(mut self, subject: &str) -> Self {
        self.message = shortened(format!("`{subject}` {}", self.message));
        self
    }
}

/// Keys and values may be as long as the file, so messages are truncated.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
        text.push('…');
    }
    text
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

impl Problem {
    /// A problem of the whole file.
    #[must_use]
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), location: None, wrong: Wrong::new(message) }
    }

    pub(crate) fn at(path: &Path, location: Location, wrong: Wrong) -> Self {
        Self { path: path.to_owned(), location: Some(location), wrong }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn start(&self) -> usize {
        self.location.as_ref().map_or(0, |location| location.span.start)
    }
}

impl Diagnostics {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::start);
        Self(problems)
    }

    /// The problems, in the order of the file's lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Diagnostics {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", problem.line())?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Displayed as plain lines. For the graphical form, report each [`Problem`].
impl Diagnostic for Diagnostics {}

impl Problem {
    /// Everything in one line, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        let location =
            self.location.as_ref().map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
        format!("{}{location}: {}", self.path.display(), self.wrong)
    }
}

/// The message without the hint. Includes the file's path only if there is no location.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.location.is_none() {
            write!(f, "{}: ", self.path.display())?;
        }
        f.write_str(&self.wrong.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.wrong.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.location.as_ref().map(|location| &*location.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let location = self.location.as_ref()?;
        let label = LabeledSpan::new_primary_with_span(None, location.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}
