//! Diagnostics of a file: what is wrong, where, and how to fix it, for logs and terminals.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::source::Source;

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
    place: Option<Place>,
    wrong: Wrong,
}

#[derive(Clone, Debug)]
struct Place {
    source: Arc<NamedSource<String>>,
    span: Range<usize>,
    line: usize,
    column: usize,
}

/// What is wrong and how to fix it, without the location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    message: String,
    cure: Option<String>,
}

const MAX_MESSAGE_BYTES: usize = 1000;

impl Wrong {
    /// Describes what is wrong. The message of a value parser continues a sentence that starts with the key:
    /// ``must be a whole number, not a string``.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: shortened(message.into()), cure: None }
    }

    /// Adds a hint about how to fix it.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(shortened(cure.into()));
        self
    }

    /// Adds a hint, if there is none yet.
    #[must_use]
    pub(crate) fn or_cure(self, cure: impl FnOnce() -> String) -> Self {
        if self.cure.is_none() { self.cure(cure()) } else { self }
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
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, ": {cure}"))
    }
}

impl Problem {
    /// A problem of the whole file.
    #[must_use]
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), place: None, wrong: Wrong::new(message) }
    }

    pub(crate) fn at(
        source: &Source,
        shown: &Arc<NamedSource<String>>,
        span: Range<usize>,
        wrong: Wrong,
    ) -> Self {
        let (line, column) = source.position(span.start);
        let place = Place { source: Arc::clone(shown), span, line, column };
        Self { path: source.path.clone(), place: Some(place), wrong }
    }

    pub(crate) fn start(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.span.start)
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
        let place = self.place.as_ref().map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
        format!("{}{place}: {}", self.path.display(), self.wrong)
    }
}

/// The message without the hint. Includes the file's path only if there is no location.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_none() {
            write!(f, "{}: ", self.path.display())?;
        }
        f.write_str(&self.wrong.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.wrong.cure.as_ref().map(|cure| Box::new(cure) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| &*place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let label = LabeledSpan::new_primary_with_span(None, place.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}
