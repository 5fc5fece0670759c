//! `imperium forget APP`: stops an app whose file is missing.

use std::io::{self, Write as _};
use std::process::ExitCode;

use api::admin::ForgetRequest;

use crate::admin::{ask, block_on};
use crate::at::At;

/// Stop running apps whose files are missing
///
/// If all files disappear at once, or their folder is replaced, Imperium assumes a mistake: the apps keep serving, and
/// `imperium status` says so.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// The apps: the names of their files without `.toml`
    #[arg(value_name = "APP", required_unless_present = "all")]
    apps: Vec<String>,
    /// All apps whose files are missing
    #[arg(long, conflicts_with = "apps")]
    all: bool,
}

/// Sends the request, and prints which apps are stopped.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let socket = args.at.socket()?;
    let request = ForgetRequest { apps: args.apps.clone() };
    let forgotten = block_on(ask(&socket, async |emperord| emperord.forget(request).await))??.apps;
    let text = match forgotten.is_empty() {
        true => "no app's file is missing\n".to_owned(),
        false => forgotten.iter().map(|it| format!("{it}: its workers end\n")).collect(),
    };
    let _nobody_listens = io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
