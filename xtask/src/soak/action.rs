//! What may happen to a stack.

use std::fmt;

use super::site::App;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// `kill -9` of a worker.
    Kill(App),
    /// A POST whose handler calls `os._exit`.
    Exit(App),
    /// A GET whose handler does, wherever it is tried.
    ExitTwice(App),
    /// SIGSTOP of a worker, for good.
    Freeze(App),
    /// SIGSTOP of a worker, and SIGCONT soon after.
    Nap(App),
    /// `touch` of the app's file.
    Reload(App),
    /// Another number of workers, by the command line.
    Scale(App, u32),
    /// Another number of workers, by the app's file.
    Edit(App, u32),
    /// Preload on, or off.
    Preload(App),
    /// A file that cannot be read, and then again one that can.
    Misspell(App),
    /// `kill -9` of the supervisor.
    KillEmperord,
    /// SIGTERM to the supervisor.
    RestartEmperord,
    /// SIGTERM to the front server.
    RestartFrontd,
    /// Nothing, until every app is whole again.
    Settle,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(app) => write!(f, "kill -9 a worker of {app}"),
            Self::Exit(app) => write!(f, "os._exit in {app} at a POST"),
            Self::ExitTwice(app) => write!(f, "os._exit in {app} at a GET"),
            Self::Freeze(app) => write!(f, "freeze a worker of {app}"),
            Self::Nap(app) => write!(f, "stop a worker of {app} for a moment"),
            Self::Reload(app) => write!(f, "reload {app}"),
            Self::Scale(app, workers) => write!(f, "scale {app} to {workers}"),
            Self::Edit(app, workers) => write!(f, "write workers = {workers} into {app}.toml"),
            Self::Preload(app) => write!(f, "turn preload of {app} on or off"),
            Self::Misspell(app) => write!(f, "break and mend {app}.toml"),
            Self::KillEmperord => f.write_str("kill -9 emperord"),
            Self::RestartEmperord => f.write_str("SIGTERM to emperord"),
            Self::RestartFrontd => f.write_str("SIGTERM to frontd"),
            Self::Settle => f.write_str("let all settle"),
        }
    }
}
