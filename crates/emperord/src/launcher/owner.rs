//! Finds who owns an app's folder, on a way there that nobody else can change.
//!
//! The owner runs the app. Whoever may replace a part of the path could choose somebody else, so that each part has to be
//! root's or the owner's.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};

use super::account;

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

const WRITABLE_BY_GROUP: u32 = 0o020;
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// Why the owner of a folder cannot be relied on; each says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// It cannot be looked at.
    #[error("look at {}: {source}", path.display())]
    Look {
        /// The part of the path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its links go round in a circle, or nearly.
    #[error("{} has more than {MAX_LINKS} links", .0.display())]
    Links(PathBuf),
    /// A part of the path is somebody else's, who could put another folder there.
    #[error(
        "{} belongs to user {uid}, who could choose another user by replacing it: give it to root (`chown -h root {}`)",
        path.display(), path.display()
    )]
    Foreign {
        /// The part of the path.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Somebody else may write into a part of the path.
    #[error(
        "{} can be written by {who}, who could choose another user by replacing what is in it: `chmod {cure} {}`",
        path.display(), path.display()
    )]
    Writable {
        /// The part of the path.
        path: PathBuf,
        /// Who may.
        who: String,
        /// What takes it from them.
        cure: &'static str,
    },
}

/// One folder or link on the way.
struct Part {
    path: PathBuf,
    uid: u32,
    gid: u32,
    /// What its mode lets others do; nothing of a link, which has no mode.
    mode: u32,
}

/// The owner of a folder, if every part of its path, links and their targets included, is root's or that same
/// user's, and nobody else may write into the folders on the way.
///
/// A folder that is sticky and writable by all, such as `/tmp`, is not relied on: what is in it may be removed, and made
/// anew by anybody.
///
/// # Errors
/// When it cannot be looked at, or is not to be relied on.
pub(super) fn owner(folder: &Path) -> Result<u32, OwnerError> {
    let parts = walk(folder)?;
    let Some(folder) = parts.last() else { return Ok(0) };
    for part in &parts {
        part.check(folder.uid, part.path == folder.path)?;
    }
    Ok(folder.uid)
}

/// All folders and links from the root to the folder. Each is opened once, and nothing is looked at by path.
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
    // Wherever the links went, the folder that was reached is the one that counts.
    way.note()?;
    Ok(way.parts)
}

struct Way {
    at: PathBuf,
    open: OwnedFd,
    parts: Vec<Part>,
}

impl Way {
    /// Goes one name further; gives the target where that is a link.
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
    /// The folder itself may be shared with a group, as its owner likes: that chooses nobody.
    fn check(&self, owner: u32, is_folder: bool) -> Result<(), OwnerError> {
        let path = self.path.clone();
        if self.uid != 0 && self.uid != owner {
            return Err(OwnerError::Foreign { path, uid: self.uid });
        }
        if self.mode & WRITABLE_BY_OTHERS != 0 {
            return Err(OwnerError::Writable { path, who: "all users".to_owned(), cure: "o-w" });
        }
        let is_shared = self.mode & WRITABLE_BY_GROUP != 0 && self.gid != 0 && !is_folder;
        if is_shared && !account::is_private_group(self.gid, owner) {
            return Err(OwnerError::Writable { path, who: format!("group {}", self.gid), cure: "g-w" });
        }
        Ok(())
    }
}

fn open_root() -> Result<OwnedFd, OwnerError> {
    let opened = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|source| OwnerError::Look { path: PathBuf::from("/"), source: source.into() })
}

/// The names of a path, `..` among them, without `.` and the root.
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

    /// A folder in which only root may write, all the way up.
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

    fn told(path: &Path) -> String {
        owner(path).map_or_else(|error| error.to_string(), |uid| uid.to_string())
    }

    #[test]
    fn the_owner_is_believed_where_nobody_else_can_replace_a_part() {
        skip::needs_root!();
        let place = place();
        let path = |name: &str| place.path().join(name);
        folder(&path("app"), APP, 0o755);
        folder(&path("app/site"), APP, 0o2775);
        assert_eq!(told(&path("app")), APP.to_string());
        assert_eq!(told(&path("app/site")), APP.to_string(), "shared with a group by its owner");
        assert_eq!(told(&path("app/site/../../app/./site")), APP.to_string());
        assert_eq!(told(place.path()), "0");
        // The way goes through what another user owns.
        folder(&path("other"), OTHER, 0o755);
        folder(&path("other/app"), APP, 0o755);
        assert!(told(&path("other/app")).contains("other belongs to user 61002, who could choose"));
        folder(&path("app/roots"), 0, 0o755);
        assert!(told(&path("app/roots")).contains("app belongs to user 61001"), "root's, within a user's");
        assert!(told(&path("none")).starts_with("look at "));
    }

    #[test]
    fn a_link_is_followed_only_if_it_is_roots_or_the_owners() {
        skip::needs_root!();
        let place = place();
        let path = |name: &str| place.path().join(name);
        folder(&path("app"), APP, 0o755);
        folder(&path("victim"), OTHER, 0o755);
        symlink(path("app"), path("current")).unwrap();
        assert_eq!(told(&path("current")), APP.to_string(), "root's link");
        lchown(path("current"), Some(OTHER), None).unwrap();
        let error = told(&path("current"));
        assert!(
            error.contains("current belongs to user 61002") && error.contains("chown -h root"),
            "{error}"
        );
        // The owner of one app points to the folder of another.
        symlink("../victim", path("app/site")).unwrap();
        lchown(path("app/site"), Some(APP), None).unwrap();
        assert!(told(&path("app/site")).contains("belongs to user 61001"));
        // Deeper in what is linked to.
        folder(&path("victim/app"), APP, 0o755);
        symlink(path("victim"), path("releases")).unwrap();
        assert!(told(&path("releases/app")).contains("victim belongs to user 61002"));
        symlink("loop", path("loop")).unwrap();
        assert!(told(&path("loop")).ends_with("has more than 40 links"));
    }

    #[test]
    fn a_folder_on_the_way_that_others_may_write_is_refused() {
        skip::needs_root!();
        let place = place();
        let path = |name: &str| place.path().join(name);
        for (name, mode, cure) in
            [("all", 0o777, "chmod o-w"), ("sticky", 0o1777, "chmod o-w"), ("group", 0o775, "chmod g-w")]
        {
            folder(&path(name), 0, mode);
            chown(path(name), None, Some(OTHER)).unwrap();
            folder(&path(&format!("{name}/app")), APP, 0o755);
            let error = told(&path(&format!("{name}/app")));
            assert!(error.contains(cure), "{name}: {error}");
        }
        folder(&path("open"), APP, 0o777);
        assert!(told(&path("open")).contains("can be written by all users"));
    }
}
