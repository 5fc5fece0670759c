//! `imperium scale APP N`: another number of workers, written into the app's file.

use std::process::ExitCode;

use api::admin::ScaleRequest;

use crate::admin::{ask, block_on};
use crate::at::At;
use crate::settled;

/// Change the number of workers of an app, in its file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// The app: the name of its file, without `.toml`
    app: String,
    /// How many workers it shall have
    #[arg(value_name = "N")]
    workers: u32,
}

/// Asks for it, and waits until they are there.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let socket = args.at.socket()?;
    let request = ScaleRequest { app: args.app.clone(), workers: args.workers };
    block_on(async {
        ask(&socket, async |emperord| emperord.scale(request).await).await?;
        settled::wait(&socket, &args.app, Some(args.workers)).await
    })??;
    Ok(ExitCode::SUCCESS)
}
