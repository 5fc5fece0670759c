//! The command line of `workerd`.

use std::fmt;
use std::path::PathBuf;

use api::{VassalName, WorkerName};
use daemon::logging::Format;

/// Runs one worker of an app.
#[derive(Debug, clap::Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    /// The name of the worker, such as `blog-2`
    #[arg(value_name = "NAME", value_parser = WorkerName::parse, required_unless_present = "template")]
    pub(crate) worker: Option<WorkerName>,
    /// Run this app's template, from which its workers are forked; emperord controls it over stdin
    #[arg(long, value_name = "APP", value_parser = VassalName::parse, conflicts_with = "worker")]
    pub(crate) template: Option<VassalName>,
    /// The unix socket of emperord
    #[arg(long, value_name = "SOCKET")]
    pub(crate) emperord: PathBuf,
    /// The format of log lines
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json", "console"])]
    pub(crate) log_format: String,
    /// The extension module, if it isn't next to this program
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) extension: Option<PathBuf>,
    /// Reports to emperord why the interpreter can't be used; the bootstrap calls workerd again with it
    #[arg(long, value_name = "WHY", hide = true)]
    pub(crate) report_interpreter: Option<String>,
    /// With `--report-interpreter`: emperord tells the developer, so it isn't logged here
    #[arg(long, hide = true, requires = "report_interpreter")]
    pub(crate) development: bool,
}

/// The role of an app's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    /// It handles requests.
    Worker(&'a WorkerName),
    /// Workers are forked from it.
    Template(&'a VassalName),
}

impl fmt::Display for Role<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(worker) => worker.fmt(f),
            Self::Template(app) => write!(f, "{app}-template"),
        }
    }
}

impl Arguments {
    /// Returns the role of this process. None is refused by the parser.
    pub(crate) fn role(&self) -> Option<Role<'_>> {
        match (&self.template, &self.worker) {
            (Some(app), _) => Some(Role::Template(app)),
            (None, worker) => worker.as_ref().map(Role::Worker),
        }
    }

    pub(crate) fn log_format(&self) -> Format {
        self.log_format.parse().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        reference::Page::of("docs/reference/commands/workerd.md")
            .is(&reference::command(&Arguments::command()));
    }
}
