//! Registers each running `imperium up` of this user, so that other commands find it.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use config::Layout;
use miette::Diagnostic;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

/// The largest number of entries that is read.
const MOST: usize = 1000;
/// The largest size of an entry, in bytes.
const LONGEST: u64 = 64 << 10;

/// How the name of the root of an `imperium up APP` begins.
pub(crate) const TEMPORARY: &str = "imperium-";

/// A running stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pid: u32,
    /// When the process was started, in clock ticks since boot, since its pid may be reused.
    started: u64,
    /// The root of its files.
    pub(crate) root: PathBuf,
    /// The working directory of `imperium up`.
    folder: PathBuf,
    /// The argument of `imperium up APP`.
    app: Option<String>,
}

/// The entry of this process. It is removed on drop.
#[derive(Debug)]
pub(crate) struct Entry(PathBuf);

/// Several stacks are running, and none of them belongs more to this folder than the others.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("choose one of the {} that `imperium up` runs:{}", .0.len(), list(.0))]
#[diagnostic(help("choose it with `--root DIR`, or go to the folder where it was started"))]
pub(crate) struct AmbiguousError(Vec<Running>);

fn list(them: &[Running]) -> String {
    let line = |it: &Running| {
        let app = it.app.as_deref().map(|app| format!("{app} in ")).unwrap_or_default();
        format!("\n  --root {}  ({app}{}, pid {})", it.root.display(), it.folder.display(), it.pid)
    };
    them.iter().map(line).collect()
}

/// Neither an `imperium up` of this user is running, nor is Imperium installed as a service.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error(
    "no `imperium up` of yours is running, and Imperium isn't set up as a service here: there is no /etc/imperium"
)]
#[diagnostic(help("{START}"))]
pub(crate) struct NothingRuns;

/// How to start it.
pub(crate) const START: &str = "for development, run `imperium up app.py`; for the apps of a folder, `imperium up --root DIR`; as a \
                                service, `systemctl start emperord`";

/// Registers this process.
///
/// # Errors
/// If the folder of entries belongs to another user, or isn't writable.
pub(crate) fn register(root: &Path, app: Option<&str>) -> io::Result<Entry> {
    let pid = std::process::id();
    let running = Running {
        pid,
        started: started(pid).ok_or(io::ErrorKind::NotFound)?,
        root: root.to_owned(),
        folder: env::current_dir()?,
        app: app.map(str::to_owned),
    };
    let path = folder(&place())?.join(format!("{pid}.json"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(&serde_json::to_vec(&running)?)?;
    Ok(Entry(path))
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.0);
    }
}

/// Whether the system's emperord is running. Commands then use it, unless a stack belongs to the current
/// folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Runs,
    Absent,
}

/// Returns the stack that commands in the current folder use. None for the system's installation.
///
/// # Errors
/// If there are several candidates.
pub(crate) fn choose() -> Result<Option<Running>, AmbiguousError> {
    let here = env::current_dir().unwrap_or_default();
    let system = if Layout::system().emperord_socket().exists() { System::Runs } else { System::Absent };
    nearest(all(), &here, system)
}

/// Returns all running stacks, the oldest first. Entries of processes that have exited are removed.
pub(crate) fn all() -> Vec<Running> {
    folder(&place()).map(|it| entries(&it)).unwrap_or_default()
}

fn entries(folder: &Path) -> Vec<Running> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    let mut running: Vec<_> = paths.take(MOST).filter_map(|path| alive(&path)).collect();
    running.sort_by_key(|it| (it.started, it.pid));
    running
}

/// Reads an entry. None if its process is no longer running.
fn alive(path: &Path) -> Option<Running> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    let entry: Option<Running> = serde_json::from_slice(&text).ok();
    let running = entry.clone().filter(|it| started(it.pid) == Some(it.started));
    // An entry that is being written isn't valid JSON yet, but its process is alive.
    let pid = path.file_stem()?.to_str()?.parse().ok();
    if running.is_none() && pid.is_none_or(|pid| !is_up(pid)) {
        let _gone_already = fs::remove_file(path);
        if let Some(killed) = entry {
            killed.remove_temporary_root();
        }
    }
    running
}

impl Running {
    /// Removes the root of an `imperium up APP` that was killed, which would have removed it itself.
    fn remove_temporary_root(&self) {
        let is_temporary = |name: &OsStr| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
        if self.app.is_some() && self.root.file_name().is_some_and(is_temporary) {
            let _gone_already = fs::remove_dir_all(&self.root);
        }
    }
}

fn is_up(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.trim() == "imperium")
}

/// Returns the stack whose folder or root contains `here`, the deepest if there are several. Otherwise the
/// only one.
fn nearest(running: Vec<Running>, here: &Path, system: System) -> Result<Option<Running>, AmbiguousError> {
    let depth = |it: &Running| {
        let holds = [&it.folder, &it.root].into_iter().filter(|it| here.starts_with(it));
        holds.map(|it| it.components().count()).max().unwrap_or(0)
    };
    let deepest = running.iter().map(depth).max().unwrap_or(0);
    if deepest == 0 && system == System::Runs {
        return Ok(None);
    }
    let mut found: Vec<_> = running.into_iter().filter(|it| depth(it) == deepest).collect();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(AmbiguousError(found)),
    }
}

/// Reads field 22 of `/proc/PID/stat`, see `proc_pid_stat(5)`. The program's name before it may contain
/// anything.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19)?.parse().ok()
}

/// The folder of entries: in the user's runtime directory if there is one, otherwise below `/tmp`.
fn place() -> PathBuf {
    match runtime_directory() {
        Some(folder) => folder.join("imperium"),
        None => PathBuf::from(format!("/tmp/imperium-{}", geteuid().as_raw())),
    }
}

/// `XDG_RUNTIME_DIR`, unless it belongs to another user, as with `sudo -E`.
pub(crate) fn runtime_directory() -> Option<PathBuf> {
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|it| is_owned(it, geteuid().as_raw()))
}

fn is_owned(folder: &Path, user: u32) -> bool {
    folder.is_absolute() && fs::metadata(folder).is_ok_and(|it| it.is_dir() && it.uid() == user)
}

/// Creates the folder if it is missing. In `/tmp`, anybody may have created it: only this user may have
/// access to it.
fn folder(path: &Path) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        let what = format!("{} must be a folder that only you may enter: remove it", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn running(folder: &str, root: &str) -> Running {
        Running {
            pid: 1,
            started: 1,
            root: root.into(),
            folder: folder.into(),
            app: Some("app.py".to_owned()),
        }
    }

    #[test]
    fn the_nearest_stack_is_chosen_and_ambiguous_ones_are_listed() {
        let choose =
            |running: &[Running], here: &str| nearest(running.to_vec(), Path::new(here), System::Absent);
        let (a, b) = (running("/srv/a", "/tmp/x"), running("/srv/a/b", "/tmp/y"));
        assert_eq!(choose(&[], "/srv").unwrap(), None);
        assert_eq!(choose(std::slice::from_ref(&a), "/elsewhere").unwrap(), Some(a.clone()));
        assert_eq!(nearest(vec![a.clone()], Path::new("/elsewhere"), System::Runs).unwrap(), None);
        assert_eq!(nearest(vec![a.clone()], Path::new("/srv/a"), System::Runs).unwrap(), Some(a.clone()));
        let both = [a.clone(), b.clone()];
        assert_eq!(choose(&both, "/srv/a/b/c").unwrap(), Some(b));
        assert_eq!(choose(&both, "/srv/a").unwrap(), Some(a.clone()));
        assert_eq!(choose(&both, "/tmp/x/run").unwrap(), Some(a));
        let error = choose(&both, "/elsewhere").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "choose one of the 2 that `imperium up` runs:\n  --root /tmp/x  (app.py in /srv/a, pid 1)"
            ),
            "{error}"
        );
    }

    #[test]
    fn entries_of_exited_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, running: &Running| {
            fs::write(folder.path().join(name), serde_json::to_vec(running).unwrap()).unwrap();
        };
        let this = std::process::id();
        let alive = Running { pid: this, started: started(this).unwrap(), ..running("/a", "/b") };
        write("1.json", &alive);
        // Entries with a reused pid, without a process, and with invalid content.
        let temporary = folder.path().join("imperium-x1y2");
        fs::create_dir_all(temporary.join("run")).unwrap();
        write("2.json", &Running { started: 1, root: temporary.clone(), ..alive.clone() });
        write("3.json", &Running { pid: u32::MAX, ..alive.clone() });
        fs::write(folder.path().join("4.json"), "half").unwrap();
        assert_eq!(entries(folder.path()), [alive]);
        // The second one was killed.
        assert!(!temporary.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_runtime_directory_of_another_user_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let user = geteuid().as_raw();
        assert!(is_owned(folder.path(), user));
        assert!(!is_owned(folder.path(), user + 1));
        assert!(!is_owned(Path::new("."), user));
        assert!(!is_owned(&folder.path().join("missing"), user));
    }

    #[test]
    fn a_folder_that_others_can_access_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("imperium");
        assert_eq!(folder(&path).unwrap(), path);
        assert_eq!(folder(&path).unwrap(), path);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(folder(&path).is_err());
        let link = parent.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(folder(&link).is_err());
    }
}
