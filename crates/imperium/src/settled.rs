//! Waits until an app has the requested workers.

use std::io::{self, Write as _};
use std::path::Path;

use api::admin::{App, app, worker};
use daemon::backoff::Backoff;
use miette::Diagnostic;

use crate::admin::{self, AdminError};

/// Why the wait has failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum SettleError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Admin(#[from] AdminError),
    /// The app's file was deleted meanwhile.
    #[error("wait for the workers of {0}: the app was removed")]
    Gone(String),
    /// The number of workers was changed again meanwhile.
    #[error("wait for the workers of {name}: its file asks for {wanted} now")]
    Overtaken { name: String, wanted: u32 },
    /// The app's workers fail.
    #[error("start the workers of {name}: {last_error}")]
    #[diagnostic(help(
        "its old workers, if any, keep serving: fix the app, then run `imperium reload {name}`"
    ))]
    Failed { name: String, last_error: String },
}

/// How far the app is from the requested state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Settled,
    Moving,
    Failed,
    Overtaken,
}

/// Waits until the app has as many workers ready as its file says, and no others. Then prints how many.
/// If `asked` is given, the wait fails once the file asks for another number.
pub(crate) async fn wait(socket: &Path, name: &str, asked: Option<u32>) -> Result<(), SettleError> {
    let mut backoff = Backoff::new();
    loop {
        let apps = admin::status(socket).await?.apps;
        let Some(app) = apps.into_iter().find(|it| it.name == name) else {
            return Err(SettleError::Gone(name.to_owned()));
        };
        match progress(&app, asked) {
            Progress::Settled => {
                print_ready(&app);
                return Ok(());
            }
            Progress::Failed => {
                return Err(SettleError::Failed { name: app.name, last_error: app.last_error });
            }
            Progress::Overtaken => {
                return Err(SettleError::Overtaken { name: app.name, wanted: app.wanted });
            }
            Progress::Moving => backoff.wait().await,
        }
    }
}

fn progress(app: &App, asked: Option<u32>) -> Progress {
    let ready = app.workers.iter().filter(|it| it.state() == worker::State::Ready).count();
    let all_ready = ready == app.workers.len() && u32::try_from(ready) == Ok(app.wanted);
    match app.state() {
        _ if asked.is_some_and(|it| it != app.wanted) => Progress::Overtaken,
        app::State::Failed | app::State::BackingOff => Progress::Failed,
        app::State::Running if all_ready => Progress::Settled,
        _ => Progress::Moving,
    }
}

fn print_ready(app: &App) {
    let plural = if app.wanted == 1 { "worker" } else { "workers" };
    let _nobody_listens = writeln!(io::stdout().lock(), "{}: {} {plural} ready", app.name, app.wanted);
}

#[cfg(test)]
mod tests {
    use api::admin::Worker;

    use super::*;

    #[track_caller]
    fn check(state: app::State, wanted: u32, workers: &[worker::State], expected: Progress) {
        let workers = workers.iter().map(|&it| Worker { state: it.into(), ..Worker::default() }).collect();
        let app = App { state: state.into(), wanted, workers, ..App::default() };
        assert_eq!(progress(&app, None), expected);
        assert_eq!(progress(&app, Some(wanted)), expected);
        assert_eq!(progress(&app, Some(wanted + 1)), Progress::Overtaken);
    }

    #[test]
    fn an_app_is_settled_once_it_has_exactly_the_wanted_workers() {
        use worker::State::{Draining, Ready, Starting};
        check(app::State::Running, 2, &[Ready, Ready], Progress::Settled);
        check(app::State::Running, 2, &[Ready, Starting], Progress::Moving);
        check(app::State::Running, 2, &[Ready], Progress::Moving);
        check(app::State::Running, 1, &[Ready, Draining], Progress::Moving);
        check(app::State::Running, 1, &[Ready, Ready], Progress::Moving);
        check(app::State::Reloading, 1, &[Ready], Progress::Moving);
        check(app::State::Starting, 1, &[], Progress::Moving);
        check(app::State::BackingOff, 1, &[], Progress::Failed);
        check(app::State::Failed, 1, &[], Progress::Failed);
    }
}
