//! `imperium reload APP`: new workers first, then the old ones drained.

use std::process::ExitCode;

use api::admin::ReloadRequest;

use crate::admin::{ask, block_on};
use crate::at::At;
use crate::settled;

/// Replace the workers of an app with new ones, without losing a request
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// The app: the name of its file without `.toml`
    app: String,
}

/// Asks for it; emperord answers once it is done.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let socket = args.at.socket()?;
    let request = ReloadRequest { app: args.app.clone() };
    block_on(async {
        ask(&socket, async |emperord| emperord.reload(request).await).await?;
        settled::wait(&socket, &args.app, None).await
    })??;
    Ok(ExitCode::SUCCESS)
}
