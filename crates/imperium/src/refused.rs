//! A file that is refused, with each thing that is wrong in it shown at its line.

use config::Problem;

/// All that is wrong with some files, as one report.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{what} has mistakes")]
pub(crate) struct Refused {
    what: String,
    #[related]
    problems: Vec<Problem>,
}

impl Refused {
    /// `what` begins the sentence: ``frontd.toml cannot be used as it is``.
    pub(crate) fn new(what: impl Into<String>, problems: impl IntoIterator<Item = Problem>) -> Self {
        Self { what: what.into(), problems: problems.into_iter().collect() }
    }
}
