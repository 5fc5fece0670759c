//! `imperium status`: shows the apps with their URLs, workers and last errors.

mod json;
mod table;

use std::io::{self, Write as _};
use std::process::ExitCode;

use miette::IntoDiagnostic as _;

use crate::addresses::Addresses;
use crate::admin::{self, block_on};
use crate::at::{At, Installation};

pub(crate) use table::age;

/// Show the apps with their URLs, workers and last errors
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// Print one JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// Prints emperord's status.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let Installation { layout, socket } = args.at.find()?;
    let status = block_on(admin::status(&socket))??;
    let addresses = Addresses::of(&socket, &layout)?;
    let text = match args.json {
        true => json::render(&status, &addresses).into_diagnostic()?,
        false => table::render(&status, &addresses, table::Colors::of_stdout()),
    };
    // A reader that exits early, such as `head`, is no error.
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).into_diagnostic(),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Whether stdout is a terminal that should show colours.
fn stdout_has_colors() -> bool {
    daemon::logging::has_color(&io::stdout())
}

/// Converts the name of a state in the proto file: `STATE_BACKING_OFF` is `backing_off`.
fn state_name(proto: &str) -> String {
    proto.strip_prefix("STATE_").unwrap_or(proto).to_ascii_lowercase()
}
