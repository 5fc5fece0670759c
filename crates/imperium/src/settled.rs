//! Waits until an app has the requested workers.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use api::admin::{App, Worker, app, worker};
use daemon::backoff::Backoff;
use miette::Diagnostic;

use crate::admin::{self, AdminError};
use crate::status::age;

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

/// Waits until the app has as many workers ready as its file says, and no others, except old ones that only their open
/// WebSockets keep. Then prints how many. If `asked` is given, the wait fails once the file asks for another number.
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
    let kept = app.workers.iter().filter(|it| is_kept_by_sockets(it)).count();
    let all_ready = ready + kept == app.workers.len() && u32::try_from(ready) == Ok(app.wanted);
    match app.state() {
        _ if asked.is_some_and(|it| it != app.wanted) => Progress::Overtaken,
        app::State::Failed | app::State::BackingOff => Progress::Failed,
        app::State::Running if all_ready => Progress::Settled,
        _ => Progress::Moving,
    }
}

/// Whether a worker has finished its requests, and waits for nothing but its WebSockets, possibly for long.
fn is_kept_by_sockets(worker: &Worker) -> bool {
    worker.state() == worker::State::Draining
        && worker.busy == 0
        && worker.sockets > 0
        && worker.sockets_end_milliseconds.is_some()
}

fn print_ready(app: &App) {
    let _nobody_listens = io::stdout().lock().write_all(summary(app).as_bytes());
}

fn summary(app: &App) -> String {
    let plural = |count: u32| if count == 1 { "" } else { "s" };
    let (name, wanted) = (&app.name, app.wanted);
    let mut text = format!("{name}: {wanted} worker{} ready\n", plural(wanted));
    let kept: Vec<_> = app.workers.iter().filter(|it| is_kept_by_sockets(it)).collect();
    if let Some(end) = kept.iter().filter_map(|it| it.sockets_end_milliseconds).max() {
        let sockets: u32 = kept.iter().map(|it| it.sockets).sum();
        let workers = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        let end = age(Duration::from_millis(end));
        text += &format!(
            "{name}: {sockets} WebSocket{} still open in {workers} old worker{}, for up to {end}\n",
            plural(sockets),
            plural(workers),
        );
    }
    text
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn workers_that_only_websockets_keep_are_not_waited_for() {
        let old = |busy, sockets, end| Worker {
            state: worker::State::Draining.into(),
            busy,
            sockets,
            sockets_end_milliseconds: end,
            ..Worker::default()
        };
        let ready = Worker { state: worker::State::Ready.into(), sockets: 3, ..Worker::default() };
        let app = |old: &[Worker]| App {
            name: "chat".to_owned(),
            state: app::State::Running.into(),
            wanted: 1,
            workers: std::iter::once(&ready).chain(old).cloned().collect(),
            ..App::default()
        };
        let settled = app(&[old(0, 12, Some(3_540_000)), old(0, 1, Some(60_000))]);
        assert_eq!(progress(&settled, None), Progress::Settled);
        assert_eq!(
            summary(&settled),
            "chat: 1 worker ready\nchat: 13 WebSockets still open in 2 old workers, for up to 59m 0s\n"
        );
        assert_eq!(summary(&app(&[])), "chat: 1 worker ready\n");
        for waits in [old(1, 12, Some(3_540_000)), old(0, 0, Some(3_540_000)), old(0, 12, None)] {
            assert_eq!(progress(&app(&[waits]), None), Progress::Moving);
        }
    }
}
