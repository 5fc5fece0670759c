//! The source files of an app: selects them, and notices changes.

mod alarm;
mod error;
mod scan;
mod select;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};
use vassal::{Python, Target, Vassal};

use alarm::Alarm;
use error::WatchError;
use scan::Snapshot;
use select::Selection;

/// A save is complete when nothing has changed for this long: editors write several files, or write one and
/// rename it.
const QUIET: Duration = Duration::from_millis(50);
/// The longest wait while changes continue.
const BURST: Duration = Duration::from_secs(1);
/// How often files are checked that inotify doesn't report, and whether the app's folder was replaced.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After this time, an app that can't start counts as changed if not all of its files can be checked.
const ANYWAY_AFTER: Duration = Duration::from_secs(60);

/// The locations of an app's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) directory: PathBuf,
    /// None stands for `python3` in PATH, which isn't watched.
    pub(crate) interpreter: Option<PathBuf>,
    /// The file that `app` names, if it names one.
    pub(crate) app: Option<PathBuf>,
    /// Folders that frontd serves: their files aren't the app's code.
    pub(crate) served: Vec<PathBuf>,
    /// The file of `env_file`, wherever it is. Only for an app that reloads: for others, it is watched with the app's file.
    pub(crate) env_file: Option<PathBuf>,
}

/// The time from which changes count. File systems may stamp a change with the time of the kernel's last
/// tick, up to 10 ms ago, but never with a later time. So earlier writes don't count as changes. Writes in
/// the same tick may be missed, but Python takes longer than that to start, and reads the new content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// Now.
    Moment(SystemTime),
    /// The last attempt to start the app, which failed: files that can't be checked count as changed after a
    /// minute.
    FailedStart(SystemTime),
}

/// Watches the files of one app.
#[derive(Debug)]
pub(crate) struct Watcher {
    selection: Arc<Selection>,
    since: Since,
    began: Instant,
    seen: Option<Snapshot>,
    alarm: Alarm,
    problem: Option<WatchError>,
    is_reported: bool,
}

/// What a watcher reports.
#[derive(Debug)]
pub enum Noticed {
    /// These files have changed since the last report.
    Changed(ChangedFiles),
    /// Some changes will be noticed late or never. Reported once.
    Limited(WatchError),
}

/// The changed files, relative to the app's folder. Empty if unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangedFiles(pub Vec<PathBuf>);

impl Sources {
    /// The files of an app, and its interpreter.
    pub(crate) fn of(vassal: &Vassal) -> Self {
        let interpreter = match &vassal.python {
            Python::Default => None,
            Python::Virtualenv(folder) => Some(folder.join("bin/python")),
            Python::Interpreter(program) => Some(program.clone()),
        };
        let app = match &vassal.app.target {
            Target::File(file) | Target::Paste(file) => Some(vassal.directory.join(file)),
            Target::Module(_) => None,
        };
        let served = vassal.static_folders.values().map(|it| &it.path);
        let served = served.chain(vassal.sendfile_folders.values()).cloned().collect();
        let env_file = vassal.env_file.clone().filter(|_| vassal.reload.watch);
        Self { directory: vassal.directory.clone(), interpreter, app, served, env_file }
    }

    /// Starts watching.
    pub(crate) fn watch(self, since: Since) -> Watcher {
        let (alarm, problem) = match Alarm::new() {
            Ok(alarm) => (alarm, None),
            Err(problem) => (Alarm::Silent, Some(problem)),
        };
        let (selection, is_reported) = (Arc::new(Selection::new(self)), problem.is_some());
        Watcher { selection, since, began: Instant::now(), seen: None, alarm, problem, is_reported }
    }
}

impl Watcher {
    /// Waits until files have changed, and no further changes follow.
    pub(crate) async fn next(&mut self) -> Noticed {
        loop {
            if let Some(problem) = self.problem.take() {
                return Noticed::Limited(problem);
            }
            if let Some(changed) = self.look().await {
                return Noticed::Changed(changed);
            }
            if self.problem.is_none() {
                self.wait().await;
            }
        }
    }

    /// Checks all files, and watches new folders.
    async fn look(&mut self) -> Option<ChangedFiles> {
        let (selection, watches) = (Arc::clone(&self.selection), self.alarm.watches());
        let scan = spawn_blocking(move || scan::scan(&selection, watches));
        let Ok((now, problem)) = scan.await else { return None };
        if let Some(problem) = problem {
            if problem.is_of_inotify() {
                self.alarm = Alarm::Silent;
            }
            if !std::mem::replace(&mut self.is_reported, true) {
                self.problem = Some(problem);
            }
        }
        if !now.is_there() {
            // For example between the two renames of a deployment. The next snapshot is compared with the
            // last one.
            return None;
        }
        let changed = match (&self.seen, self.since) {
            (Some(before), _) => now.differences(before),
            (None, Since::Moment(since) | Since::FailedStart(since)) => now.newer_than(since),
        };
        self.seen = Some(now);
        let is_due = !changed.is_empty() || self.is_overdue();
        is_due.then(|| ChangedFiles(changed.iter().map(|it| self.selection.shown(it)).collect()))
    }

    /// Whether files that can't be checked count as changed now.
    fn is_overdue(&self) -> bool {
        let sees_all = self.selection.has_interpreter() && self.seen.as_ref().is_some_and(|it| it.is_whole);
        !sees_all && matches!(self.since, Since::FailedStart(_)) && self.began.elapsed() >= ANYWAY_AFTER
    }

    /// Waits for a reason to check again.
    async fn wait(&mut self) {
        loop {
            tokio::select! {
                () = self.alarm.changed(&self.selection) => return self.wait_until_quiet().await,
                () = sleep(LOOK_EVERY) => {}
            }
            if matches!(self.alarm, Alarm::Silent) || self.is_overdue() || self.has_moved().await {
                return;
            }
        }
    }

    async fn wait_until_quiet(&mut self) {
        let end = Instant::now() + BURST;
        while let Ok(()) =
            timeout_at(end.min(Instant::now() + QUIET), self.alarm.changed(&self.selection)).await
        {
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Whether the folder or interpreter was replaced, which inotify doesn't report.
    async fn has_moved(&self) -> bool {
        let selection = Arc::clone(&self.selection);
        let Ok(now) = spawn_blocking(move || scan::roots(&selection)).await else { return false };
        self.seen.as_ref().is_none_or(|it| it.roots != now)
    }
}

impl ChangedFiles {
    /// Whether all of them are `.env` files.
    pub(crate) fn are_env_files(&self) -> bool {
        let is_env = |it: &PathBuf| it.file_name().is_some_and(select::is_env);
        !self.0.is_empty() && self.0.iter().all(is_env)
    }

    /// A short description of the files.
    fn names(&self) -> String {
        match &self.0[..] {
            [] => "files".to_owned(),
            [one] => one.display().to_string(),
            [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
        }
    }
}

impl fmt::Display for ChangedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed", self.names())
    }
}

#[cfg(test)]
mod tests;
