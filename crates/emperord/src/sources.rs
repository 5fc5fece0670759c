//! The own files of an app: which they are, and when they have changed.

mod alarm;
mod scan;
mod select;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};
use vassal::{Python, Target, Vassal};

use alarm::{Alarm, WatchError};
use scan::Snapshot;
use select::Selection;

/// A save is over when nothing has changed for this long: editors write several files, or one and rename another.
const QUIET: Duration = Duration::from_millis(50);
/// How long a change is waited with at most, while others follow.
const BURST: Duration = Duration::from_secs(1);
/// How often files are looked at that inotify doesn't tell of, and whether the app's folder is another one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When files that can't all be looked at are taken for changed, where the app can't run before they are.
const ANYWAY_AFTER: Duration = Duration::from_secs(60);

/// Where the files of an app are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The app's folder.
    pub(crate) directory: PathBuf,
    /// None is `python3` of PATH, which isn't looked at.
    pub(crate) interpreter: Option<PathBuf>,
    /// The file that `app` names, if it names one.
    pub(crate) app: Option<PathBuf>,
    /// Folders that frontd serves: their files aren't the app's code.
    pub(crate) served: Vec<PathBuf>,
}

/// From when on changes count. File systems may stamp a change with the time of the kernel's last tick, up to 10 ms ago,
/// but never with a later time. So what was written before isn't taken for a change; what is written in the same tick
/// may be missed, and is read by a Python that takes longer than that to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// This moment.
    Moment(SystemTime),
    /// The last try to start the app, which has failed: what can't be looked at counts as changed after a minute.
    FailedStart(SystemTime),
}

/// Follows the files of one app.
#[derive(Debug)]
pub(crate) struct Watcher {
    selection: Arc<Selection>,
    since: Since,
    began: Instant,
    seen: Option<Snapshot>,
    alarm: Alarm,
    problem: Option<WatchError>,
    is_told: bool,
}

/// What a watcher has to tell.
#[derive(Debug)]
pub enum Noticed {
    /// These files have changed since it was said last.
    Changed(Changed),
    /// Why some changes are seen late or never; said once.
    Limited(WatchError),
}

/// Which files have changed, by their paths from the app's folder; none where that can't be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed(pub Vec<PathBuf>);

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
        Self { directory: vassal.directory.clone(), interpreter, app, served }
    }

    /// Begins to follow them.
    pub(crate) fn watch(self, since: Since) -> Watcher {
        let (alarm, problem) = match Alarm::new() {
            Ok(alarm) => (alarm, None),
            Err(problem) => (Alarm::Silent, Some(problem)),
        };
        let (selection, is_told) = (Arc::new(Selection::new(self)), problem.is_some());
        Watcher { selection, since, began: Instant::now(), seen: None, alarm, problem, is_told }
    }
}

impl Watcher {
    /// Waits until files have changed and are left alone.
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

    /// Looks at all files, and follows the folders that are new.
    async fn look(&mut self) -> Option<Changed> {
        let (selection, watches) = (Arc::clone(&self.selection), self.alarm.watches());
        let scan = spawn_blocking(move || scan::scan(&selection, watches));
        let Ok((now, problem)) = scan.await else { return None };
        if let Some(problem) = problem {
            if problem.is_of_inotify() {
                self.alarm = Alarm::Silent;
            }
            if !std::mem::replace(&mut self.is_told, true) {
                self.problem = Some(problem);
            }
        }
        if !now.is_there() {
            // Such as between the two renames of a deployment. What is there next is compared with what was.
            return None;
        }
        let changed = match (&self.seen, self.since) {
            (Some(before), _) => now.differences(before),
            (None, Since::Moment(since) | Since::FailedStart(since)) => now.newer_than(since),
        };
        self.seen = Some(now);
        let is_due = !changed.is_empty() || self.is_overdue();
        is_due.then(|| Changed(changed.iter().map(|it| self.selection.shown(it)).collect()))
    }

    /// Whether what can't be looked at counts as changed.
    fn is_overdue(&self) -> bool {
        let sees_all = self.selection.has_interpreter() && self.seen.as_ref().is_some_and(|it| it.is_whole);
        !sees_all && matches!(self.since, Since::FailedStart(_)) && self.began.elapsed() >= ANYWAY_AFTER
    }

    /// Waits until there is a reason to look again.
    async fn wait(&mut self) {
        loop {
            tokio::select! {
                () = self.alarm.heard(&self.selection) => return self.wait_until_quiet().await,
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
            timeout_at(end.min(Instant::now() + QUIET), self.alarm.heard(&self.selection)).await
        {
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Whether another folder or interpreter is in its place, which the folders that are followed don't tell.
    async fn has_moved(&self) -> bool {
        let selection = Arc::clone(&self.selection);
        let Ok(now) = spawn_blocking(move || scan::roots(&selection)).await else { return false };
        self.seen.as_ref().is_none_or(|it| it.roots != now)
    }
}

impl Changed {
    /// As few words as tell which they are.
    fn names(&self) -> String {
        match &self.0[..] {
            [] => "files".to_owned(),
            [one] => one.display().to_string(),
            [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed", self.names())
    }
}

#[cfg(test)]
mod tests;
