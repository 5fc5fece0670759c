//! `workerd NAME`: asks emperord what to run, and becomes the app's own Python.

mod arguments;
mod become_python;
mod emperor;
mod interpreter;
mod orders;

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Context as _;
use api::WorkerName;
use api::worker::failed::Reason;
use manual::Section;

use crate::arguments::{Arguments, Role};
use crate::emperor::Emperor;
use crate::orders::Orders;

/// The exit status for problems with the interpreter or the system. gunicorn uses 4 for "app cannot be
/// loaded".
const EXIT_TROUBLE: u8 = 4;

fn main() -> ExitCode {
    let arguments: Arguments = manual::parse(Section::Daemons);
    let Some(role) = arguments.role() else { return ExitCode::from(EXIT_TROUBLE) };
    let _last_lines = daemon::logging::init(&role.to_string(), arguments.log_format());
    // On success, this process has become Python and doesn't return.
    let Err(failure) = match role {
        Role::Worker(worker) => run(worker, role, &arguments),
        Role::Template(_) => run_template(role, &arguments),
    };
    match failure {
        Failure::Other(error) => tracing::error!("{error:#}"),
        Failure::Development(error) => tracing::debug!("{error:#}"),
    }
    ExitCode::from(EXIT_TROUBLE)
}

/// Why this process didn't become Python.
enum Failure {
    Other(anyhow::Error),
    /// It was reported to emperord, which tells the developer.
    Development(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    fn reported(error: anyhow::Error, is_development: bool) -> Self {
        if is_development { Self::Development(error) } else { Self::Other(error) }
    }
}

fn run(worker: &WorkerName, role: Role<'_>, arguments: &Arguments) -> Result<Infallible, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start I/O")?;
    let emperor = runtime.block_on(async { Emperor::new(&arguments.emperord, worker.to_string()) });
    let (trouble, is_development) = match &arguments.report_interpreter {
        Some(trouble) => (anyhow::anyhow!("{trouble}"), arguments.development),
        None => {
            let spec = runtime.block_on(emperor.spec())?;
            match become_python::exec(&spec, role, arguments) {
                Err(error) => (anyhow::Error::new(error), spec.development),
            }
        }
    };
    runtime.block_on(emperor.report(Reason::Interpreter, format!("{trouble:#}")));
    Err(Failure::reported(trouble, is_development))
}

/// A template's only connection to emperord is its stdin.
fn run_template(role: Role<'_>, arguments: &Arguments) -> Result<Infallible, Failure> {
    let mut orders = Orders::of_stdin().context("read orders from stdin")?;
    let (trouble, is_development) = match &arguments.report_interpreter {
        Some(trouble) => (anyhow::anyhow!("{trouble}"), arguments.development),
        None => {
            let spec = orders.spec()?;
            match become_python::exec(&spec, role, arguments) {
                Err(error) => (anyhow::Error::new(error), spec.development),
            }
        }
    };
    orders.report(Reason::Interpreter, format!("{trouble:#}"));
    Err(Failure::reported(trouble, is_development))
}
