//! The locations of files, sockets and state: in the system's folders, or below one root.

use std::io;
use std::path::{Component, Path, PathBuf, absolute};

use api::{VassalName, WorkerName};

/// A `sockaddr_un` has room for 108 bytes including the final zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The folders of one installation. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) installation: Installation,
    /// The folder of the daemons' files and the folder of app files.
    pub etc: PathBuf,
    /// The folder of sockets. May be lost on reboot.
    pub run: PathBuf,
    /// The folder of persistent state.
    pub state: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installation {
    System,
    Root,
}

/// Why a folder can't be used as a root.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It is empty, or relative to a working directory that no longer exists.
    #[error("make the root `{}` absolute", .0.display())]
    Root(PathBuf, #[source] io::Error),
    /// It is so long that the path of emperord's socket would be too long.
    #[error(transparent)]
    Socket(#[from] SocketPathError),
}

/// A path that is too long for a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket path {} has {} bytes, but the system allows only {MAX_SOCKET_PATH}: choose a shorter name for the app or a \
     shorter folder",
    .0.display(), .0.as_os_str().len()
)]
pub struct SocketPathError(pub PathBuf);

impl Layout {
    /// The folders of the system-wide installation: `/etc`, `/run` and `/var/lib`.
    #[must_use]
    pub fn system() -> Self {
        Self {
            installation: Installation::System,
            etc: "/etc/imperium".into(),
            run: "/run/imperium".into(),
            state: "/var/lib/imperium".into(),
        }
    }

    /// Everything below one folder, which need not exist yet.
    ///
    /// # Errors
    ///
    /// Returns an error if `root` can't be made absolute, or is too long for emperord's socket.
    pub fn under(root: &Path) -> Result<Self, LayoutError> {
        let etc = absolute(root).map_err(|error| LayoutError::Root(root.to_owned(), error))?;
        let etc = without_parents(etc);
        let run = etc.join("run");
        let layout = Self { installation: Installation::Root, state: run.join("state"), etc, run };
        socket_path(layout.emperord_socket())?;
        Ok(layout)
    }

    /// The folder of the app files.
    #[must_use]
    pub fn vassals(&self) -> PathBuf {
        self.etc.join("vassals")
    }

    /// frontd's configuration file, which need not exist.
    #[must_use]
    pub fn frontd_toml(&self) -> PathBuf {
        self.etc.join("frontd.toml")
    }

    /// emperord's configuration file, which need not exist.
    #[must_use]
    pub fn emperord_toml(&self) -> PathBuf {
        self.etc.join("emperord.toml")
    }

    /// The socket of all of emperord's services.
    #[must_use]
    pub fn emperord_socket(&self) -> PathBuf {
        emperord_socket(&self.run)
    }

    /// The socket on which a worker serves frontd.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is longer than unix sockets allow.
    pub fn worker_socket(&self, worker: &WorkerName) -> Result<PathBuf, SocketPathError> {
        worker_socket(&self.run, worker)
    }
}

pub(crate) fn emperord_socket(run: &Path) -> PathBuf {
    run.join("emperord.sock")
}

pub(crate) fn worker_socket(run: &Path, worker: &WorkerName) -> Result<PathBuf, SocketPathError> {
    let folder = worker_folder(run, &worker.vassal);
    socket_path(folder.join(format!("{worker}.sock")))
}

/// One folder per app, so that each can be made inaccessible to the others.
pub(crate) fn worker_folder(run: &Path, app: &VassalName) -> PathBuf {
    workers_folder(run).join(app.as_str())
}

pub(crate) fn workers_folder(run: &Path) -> PathBuf {
    run.join("workers")
}

pub(crate) fn socket_path(path: PathBuf) -> Result<PathBuf, SocketPathError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH { Err(SocketPathError(path)) } else { Ok(path) }
}

/// Resolves each `..`, for shorter messages. After a link, `..` isn't the folder that the text says, so the file system is
/// asked. What doesn't exist yet is kept.
fn without_parents(path: PathBuf) -> PathBuf {
    let has_parents = |path: &Path| path.components().any(|it| it == Component::ParentDir);
    if !has_parents(&path) {
        return path;
    }
    let resolved = |ancestor: &Path| {
        let rest = path.strip_prefix(ancestor).ok().filter(|it| !has_parents(it))?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    };
    path.ancestors().find_map(resolved).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_holds_everything() {
        let layout = Layout::under(Path::new("/srv/imp")).unwrap();
        assert_eq!(layout.vassals(), Path::new("/srv/imp/vassals"));
        assert_eq!(layout.frontd_toml(), Path::new("/srv/imp/frontd.toml"));
        assert_eq!(layout.emperord_socket(), Path::new("/srv/imp/run/emperord.sock"));
        assert_eq!(layout.state, Path::new("/srv/imp/run/state"));
        let worker = WorkerName::parse("blog-2").unwrap();
        assert_eq!(
            layout.worker_socket(&worker).unwrap(),
            Path::new("/srv/imp/run/workers/blog/blog-2.sock")
        );
    }

    #[test]
    fn a_relative_root_is_made_absolute() {
        let layout = Layout::under(Path::new("imp")).unwrap();
        assert_eq!(layout.etc, std::env::current_dir().unwrap().join("imp"));
        assert!(matches!(Layout::under(Path::new("")), Err(LayoutError::Root(..))));
    }

    #[test]
    fn a_root_is_shown_without_its_detours() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(at.join("real/inner")).unwrap();
        std::os::unix::fs::symlink(at.join("real/inner"), at.join("link")).unwrap();
        for (root, expected) in [
            ("real/../site", "site"),
            ("real/../real/inner/..", "real"),
            // What the kernel would find.
            ("link/../site", "real/site"),
            ("gone/../site", "gone/../site"),
            ("link/site", "link/site"),
        ] {
            assert_eq!(Layout::under(&at.join(root)).unwrap().etc, at.join(expected), "{root}");
        }
    }

    #[test]
    fn socket_paths_end_at_107_bytes() {
        let suffix = "/run/emperord.sock".len();
        let root = |len: usize| PathBuf::from(format!("/{}", "r".repeat(len - suffix - 1)));
        Layout::under(&root(107)).unwrap();
        let error = Layout::under(&root(108)).unwrap_err().to_string();
        assert!(error.contains("has 108 bytes, but the system allows only 107: choose a shorter"), "{error}");
        let worker = WorkerName::parse("blog-2").unwrap();
        Layout::under(&root(107)).unwrap().worker_socket(&worker).unwrap_err();
    }
}
