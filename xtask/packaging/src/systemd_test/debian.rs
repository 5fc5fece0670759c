//! A Debian system in a folder: created once and kept. Each run writes to an overlay.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::here;

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// The packages of a bare server, and those that the guide installs with apt.
const PACKAGES: &str = "systemd-sysv,dbus,procps,python3-venv,curl,openssl";

/// The folder that is kept.
pub(crate) struct Debian {
    cache: PathBuf,
    /// Only one run at a time.
    _lock: File,
}

impl Debian {
    /// Creates it below `root`'s target folder, unless it exists.
    pub(crate) fn make(root: &Path) -> anyhow::Result<Self> {
        let cache = root.join("target/systemd-test");
        fs::create_dir_all(&cache).with_context(|| format!("make folder {}", cache.display()))?;
        let lock = File::create(cache.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .context("lock target/systemd-test: another run has it")?;
        let debian = Self { cache, _lock: lock };
        if debian.made_for().is_none_or(|it| it != PACKAGES) {
            debian.bootstrap()?;
        }
        Ok(debian)
    }

    /// Creates an overlay for a run.
    pub(crate) fn layer(&self) -> anyhow::Result<Layer> {
        Layer::mount(&self.folder(), &self.cache.join("run"))
    }

    fn folder(&self) -> PathBuf {
        self.cache.join(SUITE)
    }

    fn made_for(&self) -> Option<String> {
        fs::read_to_string(self.folder().join("made-for")).ok()
    }

    fn bootstrap(&self) -> anyhow::Result<()> {
        let fresh = self.cache.join("fresh");
        for folder in [&fresh, &self.folder()] {
            let _not_there = fs::remove_dir_all(folder);
        }
        let (path, include) = (fresh.display().to_string(), format!("--include={PACKAGES}"));
        here("debootstrap", &["--variant=minbase", &include, SUITE, &path, MIRROR])?;
        // Each run is a different machine.
        fs::write(fresh.join("etc/machine-id"), "")?;
        fs::write(fresh.join("made-for"), PACKAGES)?;
        fs::rename(&fresh, self.folder()).context("put the Debian in place")
    }
}

/// The file system of a run.
pub(crate) struct Layer {
    folder: PathBuf,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Remove,
    Keep,
}

impl Layer {
    fn mount(below: &Path, folder: &Path) -> anyhow::Result<Self> {
        // Remove that of a killed run.
        clear(folder);
        for part in ["root", "upper", "work"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let layer = Self { folder: folder.to_owned(), end: End::Remove };
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", below.display(), upper.display(), work.display());
        let root = layer.path().display().to_string();
        here("mount", &["-t", "overlay", "overlay", "-o", &options, &root])?;
        Ok(layer)
    }

    /// The root of the file system.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Leaves it mounted. Returns the root of the file system.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.end = End::Keep;
        self.path()
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if self.end == End::Remove {
            clear(&self.folder);
        }
    }
}

fn clear(folder: &Path) {
    let root = folder.join("root");
    let is_mounted = fs::read_to_string("/proc/self/mounts")
        .is_ok_and(|it| it.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(&root)));
    if is_mounted {
        let _busy = here("umount", &["--lazy", &root.display().to_string()]);
    }
    let _not_there = fs::remove_dir_all(folder);
}
