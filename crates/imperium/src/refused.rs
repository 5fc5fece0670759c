//! A report about invalid files, which shows each problem at its line.

use config::Problem;

/// All problems of some files, as one report.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{what} has mistakes")]
pub(crate) struct Refused {
    what: String,
    #[related]
    problems: Vec<Problem>,
}

impl Refused {
    /// `what` is the subject of the sentence: `frontd.toml has mistakes`.
    pub(crate) fn new(what: impl Into<String>, problems: impl IntoIterator<Item = Problem>) -> Self {
        Self { what: what.into(), problems: problems.into_iter().collect() }
    }
}
