//! Replaces the text of an operator's file atomically, and keeps everything else about it.

// Crates for atomic writes, such as atomic-write-file and tempfile, keep neither access control lists nor other
// extended attributes, split hard links, and don't notice a change by somebody else. Files that belong to emperord
// alone have none of these: for those, `state` uses tempfile.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;

/// The kernel's limit for all names, and for one value (`xattr(7)`).
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;

/// Why a file wasn't changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError {
    /// It has other hard links, which would keep the old text.
    #[error("it has {0} names (hard links), and replacing the file would separate them: edit it by hand")]
    HardLinks(u64),
    /// It was changed after it was read.
    #[error("it was changed at the same time: try again")]
    Changed,
    /// The replacement can't be given the owner and group of the file.
    #[error("keep the owner {uid} and group {gid} of the file: {source}: edit it by hand")]
    Owner {
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The replacement can't be given another property of the file.
    #[error("keep {what} of the file: {source}: edit it by hand")]
    Keep {
        /// Such as its mode.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The file can't be read, or its folder can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Replaces the text of `path` by `after`, if it is `before`. A symbolic link keeps pointing to the same
/// file.
///
/// Owner, group, mode, access control lists and all other extended attributes are kept. If this process may
/// not set the owner or group, as in emperord's own unit, the file is overwritten in place instead.
///
/// # Errors
/// If any of that fails. Then the file is unchanged.
pub(crate) fn replace(path: &Path, before: &str, after: &str) -> Result<(), ReplaceError> {
    let path = fs::canonicalize(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    // From here on, use descriptors: nobody can put another folder in its place.
    let folder = File::open(folder)?;
    let original = open_original(&folder, name)?;
    let state = original.metadata()?;
    if state.nlink() > 1 {
        return Err(ReplaceError::HardLinks(state.nlink()));
    }
    if read(&original, before.len())? != before.as_bytes() {
        return Err(ReplaceError::Changed);
    }
    let mut draft = Draft::create(&folder)?;
    draft.file.write_all(after.as_bytes())?;
    match keep_all(&original, &state, &draft.file) {
        Err(error @ ReplaceError::Owner { .. }) => {
            // The draft has shown that there is enough space.
            drop(draft);
            return overwrite(&folder, name, &state, before, after, error);
        }
        kept => kept?,
    }
    draft.file.sync_all()?;
    if !is_unchanged(&open_original(&folder, name)?.metadata()?, &state) {
        return Err(ReplaceError::Changed);
    }
    draft.rename_to(name)?;
    Ok(())
}

/// Overwrites the file. `error` is the reason why it can't be replaced, which is reported if overwriting
/// fails too.
fn overwrite(
    folder: &File,
    name: &OsStr,
    state: &fs::Metadata,
    before: &str,
    after: &str,
    error: ReplaceError,
) -> Result<(), ReplaceError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(folder, name, flags, Mode::empty()).map(File::from) else { return Err(error) };
    if !is_unchanged(&file.metadata()?, state) || read(&file, before.len())? != before.as_bytes() {
        return Err(ReplaceError::Changed);
    }
    write_all(&file, after).map_err(|source| {
        let _as_it_was = write_all(&file, before);
        source.into()
    })
}

/// Truncates last, so that a longer old text is cut off only after the new one was written.
fn write_all(file: &File, text: &str) -> io::Result<()> {
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

fn open_original(folder: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?.into())
}

/// Reads one byte more than expected, to notice a longer file.
fn read(file: &File, expected: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(expected + 1);
    file.take(expected as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_unchanged(now: &fs::Metadata, before: &fs::Metadata) -> bool {
    let state = |it: &fs::Metadata| (it.dev(), it.ino(), it.nlink(), it.size(), it.ctime(), it.ctime_nsec());
    state(now) == state(before)
}

/// Applies the properties in this order, so that no step undoes an earlier one: a change of owner clears
/// capabilities and set-user-id bits, and an access control list sets the group's permission bits.
fn keep_all(from: &File, state: &fs::Metadata, to: &File) -> Result<(), ReplaceError> {
    let now = to.metadata()?;
    let uid = (now.uid() != state.uid()).then_some(state.uid());
    let gid = (now.gid() != state.gid()).then_some(state.gid());
    if uid.is_some() || gid.is_some() {
        let (owner, group) = (state.uid(), state.gid());
        fchown(to, uid, gid).map_err(|source| ReplaceError::Owner { uid: owner, gid: group, source })?;
    }
    keep_attributes(from, to)?;
    let mode = state.mode() & 0o7777;
    to.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(|source| ReplaceError::Keep { what: format!("the mode {mode:o}"), source })
}

/// Access control lists are extended attributes. The draft may have inherited one from the folder that the
/// file doesn't have.
fn keep_attributes(from: &File, to: &File) -> Result<(), ReplaceError> {
    let keep = |name: &CString, source: Errno| ReplaceError::Keep {
        what: format!("the extended attribute {}", name.to_string_lossy()),
        source: source.into(),
    };
    let (wanted, given) = (attributes(from)?, attributes(to)?);
    for name in given.iter().filter(|name| !wanted.contains(name)) {
        fremovexattr(to, name.as_c_str()).map_err(|error| keep(name, error))?;
    }
    for name in &wanted {
        let value = value(from, name).map_err(|error| keep(name, error))?;
        if given.contains(name) && value_is(to, name, &value) {
            continue;
        }
        fsetxattr(to, name.as_c_str(), &value, XattrFlags::empty()).map_err(|error| keep(name, error))?;
    }
    Ok(())
}

/// The names of all attributes. Empty if the file system doesn't support them.
fn attributes(file: &File) -> io::Result<Vec<CString>> {
    let mut names = vec![0_u8; MAX_ATTRIBUTE_BYTES];
    let length = match flistxattr(file, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Ok(CString::new(name)?)).collect()
}

fn value(file: &File, name: &CString) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; MAX_ATTRIBUTE_BYTES];
    let length = fgetxattr(file, name.as_c_str(), &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn value_is(file: &File, name: &CString, wanted: &[u8]) -> bool {
    value(file, name).is_ok_and(|it| it == wanted)
}

/// A file next to the one that it will replace. Removed on drop, unless it was renamed.
struct Draft<'a> {
    folder: &'a File,
    name: String,
    file: File,
    is_renamed: bool,
}

impl<'a> Draft<'a> {
    fn create(folder: &'a File) -> io::Result<Self> {
        // Hidden, so that it isn't mistaken for a vassal file. `EXCL` fails if the name is in use.
        let name = format!(".scale-{:016x}", fastrand::u64(..));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: OwnedFd = openat(folder, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { folder, name, file: file.into(), is_renamed: false })
    }

    fn rename_to(mut self, name: &OsStr) -> io::Result<()> {
        renameat(self.folder, self.name.as_str(), self.folder, name)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _gone_already = unlinkat(self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests;
