//! `imperium reload APP`: starts new workers, then drains the old ones.

use std::path::Path;
use std::process::ExitCode;

use api::admin::ReloadRequest;
use miette::Diagnostic;

use crate::admin::{self, ask, block_on};
use crate::at::At;
use crate::settled;

/// Replace the workers of an app with new ones, without losing a request
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// The app: the name of its file without `.toml` [default: the only app]
    app: Option<String>,
}

/// Sends the request. emperord answers once the reload is complete.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let socket = args.at.socket()?;
    block_on(async {
        let app = match &args.app {
            Some(app) => app.clone(),
            None => only_app(&socket).await?,
        };
        let request = ReloadRequest { app: app.clone() };
        ask(&socket, async |emperord| emperord.reload(request).await).await?;
        settled::wait(&socket, &app, None).await?;
        miette::Result::<()>::Ok(())
    })??;
    Ok(ExitCode::SUCCESS)
}

/// No app is running, or several are.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("reload which app? {}", choices(.0))]
struct WhichError(Vec<String>);

fn choices(apps: &[String]) -> String {
    if apps.is_empty() { "no app is running".to_owned() } else { format!("name one of {}", apps.join(", ")) }
}

async fn only_app(socket: &Path) -> miette::Result<String> {
    let mut names: Vec<_> = admin::status(socket).await?.apps.into_iter().map(|it| it.name).collect();
    match names.len() {
        1 => Ok(names.remove(0)),
        _ => Err(WhichError(names).into()),
    }
}
