//! The own files of an app that only an edit can help, looked at until one of them changes.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use vassal::{Python, Vassal};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When what cannot be watched is taken for changed.
const ANYWAY_AFTER: Duration = Duration::from_secs(60);
/// How many names are looked at.
const MAX_ENTRIES: usize = 20_000;
/// How many folders deep.
const MAX_DEPTH: usize = 10;
/// Folders with nothing that the app's author edits; those whose names begin with a dot are skipped, too.
const SKIPPED: [&str; 4] = ["__pycache__", "node_modules", "site-packages", "dist-packages"];

/// Where the files are.
#[derive(Debug)]
pub(crate) struct Sources {
    directory: PathBuf,
    /// None is `python3` of PATH, which cannot be watched.
    interpreter: Option<PathBuf>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Snapshot {
    digest: u64,
    /// The last change of any of them that is not in the future.
    newest: Option<SystemTime>,
    /// All of them were looked at.
    is_whole: bool,
}

impl Sources {
    /// The Python files below the app's folder, and its interpreter.
    #[must_use]
    pub(crate) fn of(vassal: &Vassal) -> Self {
        let interpreter = match &vassal.python {
            Python::Default => None,
            Python::Virtualenv(folder) => Some(folder.join("bin/python")),
            Python::Interpreter(program) => Some(program.clone()),
        };
        Self { directory: vassal.directory.clone(), interpreter }
    }

    /// Waits until one of them has changed since then. Where there are too many to look at all of them, a minute is
    /// waited for at most.
    pub(crate) async fn changed(self, since: SystemTime) {
        let began = Instant::now();
        let mut sources = self;
        let mut first = None;
        loop {
            let Ok((back, now)) = tokio::task::spawn_blocking(move || sources.look()).await else { return };
            sources = back;
            let first = *first.get_or_insert(now);
            let is_new = now.digest != first.digest || now.newest.is_some_and(|it| it > since);
            if is_new || (!now.is_whole && began.elapsed() >= ANYWAY_AFTER) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn look(self) -> (Self, Snapshot) {
        let mut look = Look::new();
        look.folder(&self.directory, 0);
        match &self.interpreter {
            Some(interpreter) => look.file(interpreter, fs::metadata(interpreter)),
            None => look.seen.is_whole = false,
        }
        (self, look.seen)
    }
}

/// One look at all of them.
struct Look {
    now: SystemTime,
    left: usize,
    seen: Snapshot,
}

impl Look {
    fn new() -> Self {
        let seen = Snapshot { digest: 0, newest: None, is_whole: true };
        Self { now: SystemTime::now(), left: MAX_ENTRIES, seen }
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            self.seen.is_whole = false;
            return;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(left) = self.left.checked_sub(1) else {
                self.seen.is_whole = false;
                return;
            };
            self.left = left;
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            let is_folder = entry.file_type().is_ok_and(|it| it.is_dir());
            let is_skipped = name.starts_with('.') || SKIPPED.contains(&&*name);
            match is_folder {
                true if is_skipped => {}
                true => self.folder(&path, depth + 1),
                false if is_source(&path) => self.file(&path, fs::metadata(&path)),
                false => {}
            }
        }
    }

    /// The order in which files are found says nothing.
    fn file(&mut self, path: &Path, metadata: std::io::Result<Metadata>) {
        let mut hash = DefaultHasher::new();
        path.hash(&mut hash);
        if let Ok(it) = metadata {
            (it.ino(), it.size(), it.ctime(), it.ctime_nsec()).hash(&mut hash);
            let changed = u64::try_from(it.ctime()).ok().zip(u32::try_from(it.ctime_nsec()).ok());
            let changed =
                changed.and_then(|(s, ns)| SystemTime::UNIX_EPOCH.checked_add(Duration::new(s, ns)));
            self.seen.newest = self.seen.newest.max(changed.filter(|it| *it <= self.now));
        }
        self.seen.digest = self.seen.digest.wrapping_add(hash.finish());
    }
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "py" || it == "wsgi")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(folder: &Path) -> Sources {
        Sources { directory: folder.to_owned(), interpreter: Some(folder.join("bin/python")) }
    }

    async fn check(change: impl FnOnce(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("blog");
        fs::create_dir(&package).unwrap();
        fs::write(package.join("wsgi.py"), "app = (").unwrap();
        let since = SystemTime::now() + Duration::from_secs(5);
        let before = sources(folder.path()).look().1;
        change(folder.path());
        assert_ne!(sources(folder.path()).look().1.digest, before.digest);
        assert!(before.newest.is_some_and(|it| it <= since));
    }

    #[tokio::test]
    async fn edits_are_seen() {
        check(|it| fs::write(it.join("blog/wsgi.py"), "app = ()").unwrap()).await;
        check(|it| fs::write(it.join("more.py"), "").unwrap()).await;
        check(|it| fs::remove_file(it.join("blog/wsgi.py")).unwrap()).await;
        check(|it| {
            fs::create_dir(it.join("bin")).unwrap();
            fs::write(it.join("bin/python"), "").unwrap();
        })
        .await;
    }

    #[test]
    fn what_no_author_edits_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let before = sources(folder.path()).look().1;
        for skipped in ["lib/site-packages", "__pycache__", ".git", "data"] {
            fs::create_dir_all(folder.path().join(skipped)).unwrap();
        }
        for file in ["lib/site-packages/a.py", "__pycache__/a.py", ".git/a.py", "data/db.sqlite3"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        assert_eq!(sources(folder.path()).look().1, before);
    }

    #[tokio::test]
    async fn an_edit_before_the_first_look_is_seen_too() {
        let folder = tempfile::tempdir().unwrap();
        let since = SystemTime::now() - Duration::from_secs(60);
        fs::write(folder.path().join("app.py"), "").unwrap();
        sources(folder.path()).changed(since).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_watched_is_tried_each_minute() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources { directory: folder.path().to_owned(), interpreter: None };
        let began = Instant::now();
        sources.changed(SystemTime::now()).await;
        assert!(began.elapsed() >= ANYWAY_AFTER);
    }
}
