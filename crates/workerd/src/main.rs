//! `workerd NAME`: asks emperord what to run, and becomes the app's own Python.

mod arguments;
mod become_python;
mod emperor;
mod interpreter;

use std::process::ExitCode;

use anyhow::Context as _;
use api::worker::failed::Reason;
use clap::Parser as _;

use crate::arguments::Arguments;
use crate::emperor::Emperor;

/// Trouble of the interpreter or of the machine, as gunicorn's "app cannot be loaded" is 4.
const EXIT_TROUBLE: u8 = 4;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::logging::init(&arguments.worker.to_string(), arguments.log_format());
    // Only trouble brings us back: on success this process is Python by now.
    let Err(error) = run(&arguments);
    tracing::error!("{error:#}");
    ExitCode::from(EXIT_TROUBLE)
}

fn run(arguments: &Arguments) -> anyhow::Result<std::convert::Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start I/O")?;
    let emperor = runtime.block_on(async { Emperor::new(&arguments.emperord, arguments.worker.to_string()) });
    let trouble = match &arguments.report_interpreter {
        Some(trouble) => anyhow::anyhow!("{trouble}"),
        None => {
            let spec = runtime.block_on(emperor.spec())?;
            match become_python::exec(&spec, arguments) {
                Err(error) => anyhow::Error::new(error),
            }
        }
    };
    runtime.block_on(emperor.report(Reason::Interpreter, format!("{trouble:#}")));
    Err(trouble)
}
