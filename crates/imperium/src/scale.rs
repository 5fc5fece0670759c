//! `imperium scale APP N`: writes another number of workers into the app's file.

use std::process::ExitCode;

use api::admin::ScaleRequest;

use crate::admin::{ask, block_on};
use crate::at::At;
use crate::{number, settled};

/// Set the number of workers in an app's file, and wait until they are ready
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// The app: the name of its file without `.toml`
    app: String,
    /// The number of workers
    #[arg(value_name = "N", value_parser = number::any::<u32>)]
    workers: u32,
}

/// Sends the request, and waits until the workers are ready.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let socket = args.at.socket()?;
    let request = ScaleRequest { app: args.app.clone(), workers: args.workers };
    block_on(async {
        ask(&socket, async |emperord| emperord.scale(request).await).await?;
        settled::wait(&socket, &args.app, Some(args.workers)).await
    })??;
    Ok(ExitCode::SUCCESS)
}
