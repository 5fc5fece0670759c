//! The command line of `workerd`.

use std::path::PathBuf;

use api::WorkerName;
use daemon::logging::Format;

/// Runs one worker of an app, as emperord says.
#[derive(Debug, clap::Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    /// Name of the worker, such as `blog-2`
    #[arg(value_name = "NAME", value_parser = WorkerName::parse)]
    pub(crate) worker: WorkerName,
    /// Unix socket of emperord
    #[arg(long, value_name = "SOCKET")]
    pub(crate) emperord: PathBuf,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
    /// The extension module, where it is not beside this program
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) extension: Option<PathBuf>,
    /// Tells emperord why the interpreter cannot be used: the interpreter itself says so, by calling back
    #[arg(long, value_name = "WHY", hide = true)]
    pub(crate) report_interpreter: Option<String>,
}

impl Arguments {
    /// How log lines are written.
    pub(crate) fn log_format(&self) -> Format {
        self.log_format.parse().unwrap_or_default()
    }
}
