//! What can happen to a stack.

use std::fmt;

use super::site::App;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// `kill -9` of a worker.
    Kill(App),
    /// A POST whose handler calls `os._exit`.
    Exit(App),
    /// A GET whose handler calls `os._exit`, also when it is retried.
    ExitTwice(App),
    /// SIGSTOP of a worker, permanently.
    Freeze(App),
    /// SIGSTOP of a worker, and SIGCONT soon after.
    Nap(App),
    /// `touch` of the app's file.
    Reload(App),
    /// Changes the number of workers with the command line.
    Scale(App, u32),
    /// Changes the number of workers in the app's file.
    Edit(App, u32),
    /// Turns preload on or off.
    Preload(App),
    /// Makes the app's file invalid, then valid again.
    Misspell(App),
    /// Deploys a version that fails to start, then kills a worker of the last good one, which has to be
    /// replaced.
    AbandonReload(App),
    /// Clients that send and read very slowly for a while.
    SlowClients(App),
    /// Clients that reset their connections in the middle of a response.
    VanishingClients(App),
    /// WebSocket clients that send and read very slowly for a while, and are sent much.
    SlowSockets,
    /// WebSocket clients that disconnect without a close frame, in the middle of messages.
    VanishingSockets,
    /// WebSocket clients that send more pings than they may.
    FloodingSockets,
    /// Nobody reads the log for a while, and an app writes more than fits into the pipe.
    FillLog(App),
    /// Deletes the files of all apps, and restores them.
    EmptyFolder,
    /// Replaces the folder of the apps' files with an empty one for a while.
    ReplaceFolder,
    /// `kill -9` of the supervisor, and removal of its state file.
    LoseWorkers,
    /// `kill -9` of the supervisor, and damage to its state file.
    DamageWorkers,
    /// `kill -9` of the supervisor.
    KillEmperord,
    /// SIGTERM to the supervisor.
    RestartEmperord,
    /// `kill -9` of the front server.
    KillFrontd,
    /// SIGTERM to the front server.
    RestartFrontd,
    /// Nothing, until every app has all of its workers again.
    Settle,
}

impl Action {
    /// Whether new workers may replace all of an app.
    pub(crate) fn may_replace(self, app: App) -> bool {
        match self {
            Self::Reload(of)
            | Self::Scale(of, _)
            | Self::Edit(of, _)
            | Self::Preload(of)
            | Self::Misspell(of)
            | Self::AbandonReload(of) => of == app,
            Self::EmptyFolder | Self::ReplaceFolder | Self::LoseWorkers | Self::DamageWorkers => true,
            _ => false,
        }
    }
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
            Self::Misspell(app) => write!(f, "break and fix {app}.toml"),
            Self::AbandonReload(app) => write!(f, "abandon a reload of {app}, and kill -9 a worker"),
            Self::SlowClients(app) => write!(f, "slow clients of {app}"),
            Self::VanishingClients(app) => write!(f, "clients of {app} that vanish"),
            Self::SlowSockets => f.write_str("slow WebSocket clients"),
            Self::VanishingSockets => f.write_str("WebSocket clients that vanish"),
            Self::FloodingSockets => f.write_str("WebSocket clients that flood with pings"),
            Self::FillLog(app) => write!(f, "nobody reads the log while {app} writes it"),
            Self::EmptyFolder => f.write_str("delete all apps' files for a while"),
            Self::ReplaceFolder => f.write_str("replace the folder of the apps' files for a while"),
            Self::LoseWorkers => f.write_str("kill -9 emperord, and delete its workers.json"),
            Self::DamageWorkers => f.write_str("kill -9 emperord, and damage its workers.json"),
            Self::KillEmperord => f.write_str("kill -9 emperord"),
            Self::RestartEmperord => f.write_str("SIGTERM to emperord"),
            Self::KillFrontd => f.write_str("kill -9 frontd"),
            Self::RestartFrontd => f.write_str("SIGTERM to frontd"),
            Self::Settle => f.write_str("let all settle"),
        }
    }
}
