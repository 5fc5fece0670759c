//! Finds the owner of an app's folder, by a path that nobody else can change.
//!
//! The app runs as the owner. Whoever can replace a part of the path could choose another user, so each part
//! has to belong to root or to the owner.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};

use super::account;

/// The largest number of symbolic links, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

const WRITABLE_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// Why the owner of a folder can't be trusted. Each error says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// It can't be accessed.
    #[error("look at {}: {source}", path.display())]
    Look {
        /// The part of the path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Too many symbolic links.
    #[error("{} has more than {MAX_LINKS} links", .0.display())]
    Links(PathBuf),
    /// A part of the path belongs to another user, who could put another folder there.
    #[error(
        "{} belongs to user {uid}, who could change the app's user by replacing it: give it to root (`chown -h root {}`)",
        path.display(), path.display()
    )]
    Foreign {
        /// The part of the path.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A part of the path is for everybody's files, such as `/tmp`.
    #[error(
        "{} is a folder for everybody's files, who could change the app's user by replacing it: move the app elsewhere, such as below /srv",
        .0.display()
    )]
    Sticky(PathBuf),
    /// Another user may write to a part of the path.
    #[error(
        "{} can be written by {who}, who could change the app's user by replacing its content: `chmod {mode} {}`",
        path.display(), path.display()
    )]
    Writable {
        /// The part of the path.
        path: PathBuf,
        /// Who may write.
        who: String,
        /// The mode change that prevents it.
        mode: &'static str,
    },
}

/// A folder or link on the path.
struct Part {
    path: PathBuf,
    uid: u32,
    gid: u32,
    /// Its permission bits. 0 for a link, whose mode is meaningless.
    mode: u32,
}

/// Returns the owner of a folder, if every part of its path, including links and their targets, belongs to
/// root or to the owner, and nobody else may write to the folders above it.
///
/// A world-writable sticky folder such as `/tmp` isn't trusted: its entries may be removed and created again
/// by anybody.
///
/// # Errors
/// If it can't be accessed or trusted.
pub(super) fn owner(folder: &Path) -> Result<u32, OwnerError> {
    let parts = walk(folder)?;
    let Some(folder) = parts.last() else { return Ok(0) };
    for part in &parts {
        part.check(folder.uid, part.path == folder.path)?;
    }
    Ok(folder.uid)
}

/// Returns all folders and links from the root to the folder. Each is opened once, relative to its parent.
fn walk(folder: &Path) -> Result<Vec<Part>, OwnerError> {
    let mut way = Way { at: PathBuf::from("/"), open: open_root()?, parts: Vec::new() };
    way.note()?;
    let mut left: VecDeque<OsString> = names(folder);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let Some(target) = way.enter(&name)? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(OwnerError::Links(folder.to_owned()));
        }
        if target.is_absolute() {
            (way.at, way.open) = (PathBuf::from("/"), open_root()?);
        }
        for name in names(&target).into_iter().rev() {
            left.push_front(name);
        }
    }
    // The folder that was finally reached is the one that counts.
    way.note()?;
    Ok(way.parts)
}

struct Way {
    at: PathBuf,
    open: OwnedFd,
    parts: Vec<Part>,
}

impl Way {
    /// Enters a folder. Returns the target if it is a link.
    fn enter(&mut self, name: &OsStr) -> Result<Option<PathBuf>, OwnerError> {
        let path =
            if name == ".." { self.at.parent().unwrap_or(&self.at).to_owned() } else { self.at.join(name) };
        let failed =
            |source: rustix::io::Errno| OwnerError::Look { path: path.clone(), source: source.into() };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.open, name, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&opened).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = readlinkat(&opened, "", Vec::new()).map_err(failed)?;
            self.parts.push(Part { path, uid: stat.st_uid, gid: stat.st_gid, mode: 0 });
            return Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))));
        }
        (self.at, self.open) = (path, opened);
        self.note()?;
        Ok(None)
    }

    fn note(&mut self) -> Result<(), OwnerError> {
        let stat = fstat(&self.open)
            .map_err(|source| OwnerError::Look { path: self.at.clone(), source: source.into() })?;
        let path = self.at.clone();
        self.parts.push(Part { path, uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode });
        Ok(())
    }
}

impl Part {
    /// The folder itself may be group-writable: that doesn't let others choose the user.
    fn check(&self, owner: u32, is_folder: bool) -> Result<(), OwnerError> {
        let path = self.path.clone();
        if self.uid != 0 && self.uid != owner {
            return Err(OwnerError::Foreign { path, uid: self.uid });
        }
        if self.mode & WRITABLE_BY_OTHERS != 0 && self.mode & STICKY != 0 {
            return Err(OwnerError::Sticky(path));
        }
        if self.mode & WRITABLE_BY_OTHERS != 0 {
            return Err(OwnerError::Writable { path, who: "all users".to_owned(), mode: "o-w" });
        }
        let is_shared = self.mode & WRITABLE_BY_GROUP != 0 && self.gid != 0 && !is_folder;
        if is_shared && !account::is_private_group(self.gid, owner) {
            return Err(OwnerError::Writable { path, who: format!("group {}", self.gid), mode: "g-w" });
        }
        Ok(())
    }
}

fn open_root() -> Result<OwnedFd, OwnerError> {
    let opened = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|source| OwnerError::Look { path: PathBuf::from("/"), source: source.into() })
}

/// Splits a path into names, including `..`, without `.` and the root.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use tempfile::TempDir;

    use super::*;

    const APP: u32 = 61_001;
    const OTHER: u32 = 61_002;

    /// A folder whose parents are only writable by root.
    fn place() -> TempDir {
        let place = tempfile::Builder::new().prefix("imperium-owner-").tempdir_in("/var/lib").unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn folder(path: &Path, uid: u32, mode: u32) {
        fs::create_dir(path).unwrap();
        chown(path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn result(path: &Path) -> String {
        owner(path).map_or_else(|error| error.to_string(), |uid| uid.to_string())
    }

    #[test]
    fn the_owner_is_trusted_if_nobody_else_can_replace_a_part() {
        skip::needs_root!();
        let place = place();
        let path = |name: &str| place.path().join(name);
        folder(&path("app"), APP, 0o755);
        folder(&path("app/site"), APP, 0o2775);
        assert_eq!(result(&path("app")), APP.to_string());
        assert_eq!(result(&path("app/site")), APP.to_string(), "shared with a group by its owner");
        assert_eq!(result(&path("app/site/../../app/./site")), APP.to_string());
        assert_eq!(result(place.path()), "0");
        // The path leads through a folder of another user.
        folder(&path("other"), OTHER, 0o755);
        folder(&path("other/app"), APP, 0o755);
        assert!(result(&path("other/app")).contains("other belongs to user 61002, who could change"));
        folder(&path("app/roots"), 0, 0o755);
        assert!(result(&path("app/roots")).contains("app belongs to user 61001"), "root's, within a user's");
        assert!(result(&path("none")).starts_with("look at "));
    }

    #[test]
    fn a_link_is_followed_only_if_it_belongs_to_root_or_the_owner() {
        skip::needs_root!();
        let place = place();
        let path = |name: &str| place.path().join(name);
        folder(&path("app"), APP, 0o755);
        folder(&path("victim"), OTHER, 0o755);
        symlink(path("app"), path("current")).unwrap();
        assert_eq!(result(&path("current")), APP.to_string(), "root's link");
        lchown(path("current"), Some(OTHER), None).unwrap();
        let error = result(&path("current"));
        assert!(
            error.contains("current belongs to user 61002") && error.contains("chown -h root"),
            "{error}"
        );
        // The owner of one app links to the folder of another.
        symlink("../victim", path("app/site")).unwrap();
        lchown(path("app/site"), Some(APP), None).unwrap();
        assert!(result(&path("app/site")).contains("belongs to user 61001"));
        // A folder below the link's target.
        folder(&path("victim/app"), APP, 0o755);
        symlink(path("victim"), path("releases")).unwrap();
        assert!(result(&path("releases/app")).contains("victim belongs to user 61002"));
        symlink("loop", path("loop")).unwrap();
        assert!(result(&path("loop")).ends_with("has more than 40 links"));
    }

    #[test]
    fn a_parent_folder_that_others_may_write_is_refused() {
        skip::needs_root!();
        let place = place();
        let path = |name: &str| place.path().join(name);
        for (name, mode, hint) in [
            ("all", 0o777, "chmod o-w"),
            ("sticky", 0o1777, "move the app elsewhere"),
            ("group", 0o775, "chmod g-w"),
        ] {
            folder(&path(name), 0, mode);
            chown(path(name), None, Some(OTHER)).unwrap();
            folder(&path(&format!("{name}/app")), APP, 0o755);
            let error = result(&path(&format!("{name}/app")));
            assert!(error.contains(hint), "{name}: {error}");
        }
        folder(&path("open"), APP, 0o777);
        assert!(result(&path("open")).contains("can be written by all users"));
    }
}
