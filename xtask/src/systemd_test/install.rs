//! Puts Imperium where its package does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tests::place::Place;

/// The programs.
pub(crate) const BINARIES: [&str; 4] = ["frontd", "emperord", "workerd", "imperium"];

/// Writes all files below `root`, over those that are there: running programs keep theirs, as with dpkg.
pub(crate) fn files(root: &Path, place: &Place) -> anyhow::Result<()> {
    for name in BINARIES {
        put(&place.binaries.join(name), &root.join("usr/bin").join(name), 0o755)?;
    }
    let extension = "libpyworker.so";
    put(&place.binaries.join(extension), &root.join("usr/lib/imperium").join(extension), 0o644)?;
    let deploy = crate::root().join("deploy");
    folder(&deploy.join("systemd"), &root.join("usr/lib/systemd/system"))?;
    folder(&deploy.join("sysusers.d"), &root.join("usr/lib/sysusers.d"))?;
    folder(&deploy.join("tmpfiles.d"), &root.join("usr/lib/tmpfiles.d"))
}

/// Takes away what `files` has written.
pub(crate) fn remove(root: &Path) -> anyhow::Result<()> {
    for name in BINARIES {
        fs::remove_file(root.join("usr/bin").join(name))?;
    }
    fs::remove_dir_all(root.join("usr/lib/imperium"))?;
    let deploy = crate::root().join("deploy");
    for (from, to) in
        [("systemd", "systemd/system"), ("sysusers.d", "sysusers.d"), ("tmpfiles.d", "tmpfiles.d")]
    {
        for entry in fs::read_dir(deploy.join(from))? {
            fs::remove_file(root.join("usr/lib").join(to).join(entry?.file_name()))?;
        }
    }
    Ok(())
}

fn folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        put(&path, &to.join(name), 0o644)?;
    }
    Ok(())
}

/// Copies a file beside its place and renames it.
pub(crate) fn put(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    let copy = || {
        fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
        let fresh = to.with_extension("new");
        fs::copy(from, &fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
        fs::rename(&fresh, to)
    };
    copy().with_context(|| format!("copy {} to {}", from.display(), to.display()))
}
