//! Limits of memory and processors for processes that emperord starts itself: a cgroup for each (cgroup v2).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Within emperord's own cgroup.
const FOLDER: &str = "imperium-workers";
/// Where emperord itself goes, if it has to leave its cgroup: one with processes passes no controller on.
const OWN: &str = "imperium-emperord";
/// The period that shares of the processors are measured in, in microseconds.
const PERIOD: u64 = 100_000;

/// What a process may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In bytes; None is no limit.
    pub(crate) memory: Option<u64>,
    /// In percent of one processor; None is no limit.
    pub(crate) cpu: Option<u32>,
}

/// The cgroups of this emperord's workers, made when the first app asks for a limit.
#[derive(Debug, Default)]
pub struct Cgroups {
    base: OnceLock<Result<PathBuf, String>>,
}

impl Limits {
    pub(crate) fn is_none(self) -> bool {
        self.memory.is_none() && self.cpu.is_none()
    }

    /// The keys of the file that set them, each with the controller that it needs.
    fn keys(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let memory = self.memory.map(|_| ("limits.memory", "memory"));
        memory.into_iter().chain(self.cpu.map(|_| ("limits.cpu", "cpu")))
    }
}

impl Cgroups {
    /// Whether limits can be set here.
    ///
    /// # Errors
    /// With the key that cannot be followed, why, and what to do.
    pub(crate) fn check(&self, limits: Limits) -> Result<(), String> {
        for (key, controller) in limits.keys() {
            let enabled = self.base().and_then(|base| {
                let enabled = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
                match enabled.split_ascii_whitespace().any(|it| it == controller) {
                    true => Ok(()),
                    false => Err(format!("the cgroup {} has no controller `{controller}`", base.display())),
                }
            });
            enabled.map_err(|why| {
                format!(
                    "`{key}` cannot be followed: {why}: give emperord a cgroup v2 of its own (`Delegate=yes` in its \
                     unit), run it with `--launcher systemd`, or leave `{key}` out"
                )
            })?;
        }
        Ok(())
    }

    /// Makes the cgroup of a worker, and gives the file that a process enters it by.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn make(&self, worker: &str, limits: Limits) -> io::Result<File> {
        let base = self.base().map_err(io::Error::other)?;
        remove_empty(base);
        let folder = base.join(worker);
        make_folder(&folder)?;
        if limits.memory.is_some() {
            fs::write(folder.join("memory.max"), maximum(limits.memory))?;
        }
        if limits.cpu.is_some() {
            let share = limits.cpu.map(|percent| u64::from(percent) * PERIOD / 100);
            fs::write(folder.join("cpu.max"), format!("{} {PERIOD}", maximum(share)))?;
        }
        OpenOptions::new().write(true).open(folder.join("cgroup.procs"))
    }

    fn base(&self) -> Result<&Path, String> {
        let base = self.base.get_or_init(|| {
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            open(Path::new("/sys/fs/cgroup"), &own)
        });
        base.as_deref().map_err(Clone::clone)
    }
}

fn maximum(limit: Option<u64>) -> String {
    limit.map_or_else(|| "max".to_owned(), |it| it.to_string())
}

/// Makes the cgroup that holds those of the workers; `own` is what `/proc/self/cgroup` says.
fn open(mount: &Path, own: &str) -> Result<PathBuf, String> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.filter(|_| mount.join("cgroup.controllers").exists());
    let own = mount.join(path.ok_or("this system has no cgroup v2")?.trim_start_matches('/'));
    let failed = |step: &str, path: &Path, error: &io::Error| format!("{step} {}: {error}", path.display());
    let there = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let wanted = ["memory", "cpu"];
    let wanted = wanted.into_iter().filter(|it| there.split_ascii_whitespace().any(|there| there == *it));
    let wanted = wanted.map(|it| format!("+{it}")).collect::<Vec<_>>().join(" ");
    let base = own.join(FOLDER);
    make_folder(&base).map_err(|error| failed("make cgroup", &base, &error))?;
    pass_on(&own, &wanted).map_err(|error| failed("pass controllers on in", &own, &error))?;
    pass_on(&base, &wanted).map_err(|error| failed("pass controllers on in", &base, &error))?;
    Ok(base)
}

/// Where emperord is alone in its cgroup, it leaves it first, if the kernel wants that.
fn pass_on(cgroup: &Path, controllers: &str) -> io::Result<()> {
    let control = cgroup.join("cgroup.subtree_control");
    match fs::write(&control, controllers) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let processes = fs::read_to_string(cgroup.join("cgroup.procs"))?;
            if processes.trim() != std::process::id().to_string() {
                return Err(io::Error::other("it has other processes than emperord in it"));
            }
            make_folder(&cgroup.join(OWN))?;
            fs::write(cgroup.join(OWN).join("cgroup.procs"), "0")?;
            fs::write(&control, controllers)
        }
        written => written,
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Those of workers that have ended. The kernel keeps one that has a process.
fn remove_empty(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let _in_use = fs::remove_dir(entry.path());
    }
}

/// Has a process enter the cgroup of this file; 0 is the one that writes.
pub(crate) fn enter(mut procs: &File, pid: u32) -> io::Result<()> {
    let mut text = [0_u8; 10];
    // Without an allocation, for between fork and exec.
    let mut left = &mut text[..];
    write!(left, "{pid}")?;
    let free = left.len();
    let used = text.len() - free;
    procs.write_all(&text[..used])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files where the kernel has its own.
    fn cgroup2(controllers: &str) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("a.slice/emperord.service");
        fs::create_dir_all(own.join(FOLDER)).unwrap();
        fs::write(mount.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        for folder in [own.clone(), own.join(FOLDER)] {
            fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
        }
        mount
    }

    #[test]
    fn limits_are_written_where_the_kernel_reads_them() {
        let mount = cgroup2("cpu memory pids");
        let base = open(mount.path(), "1:name=systemd:/x\n0::/a.slice/emperord.service\n").unwrap();
        assert_eq!(fs::read_to_string(base.join("cgroup.subtree_control")).unwrap(), "+memory +cpu");
        let worker = base.join("blog-1");
        fs::create_dir(&worker).unwrap();
        fs::write(worker.join("cgroup.procs"), "").unwrap();
        let cgroups = Cgroups::default();
        cgroups.base.set(Ok(base)).unwrap();
        let procs = cgroups.make("blog-1", Limits { memory: Some(300), cpu: Some(150) }).unwrap();
        enter(&procs, 4_294_967_295).unwrap();
        let written = |file: &str| fs::read_to_string(worker.join(file)).unwrap();
        assert_eq!(written("memory.max"), "300");
        assert_eq!(written("cpu.max"), "150000 100000");
        assert_eq!(written("cgroup.procs"), "4294967295");
    }

    #[test]
    fn what_cannot_be_followed_is_told_with_its_key() {
        let mount = cgroup2("memory");
        let refused = |mount: &Path, own: &str, limits: Limits| {
            let cgroups = Cgroups::default();
            let base = open(mount, own).inspect(|base| {
                fs::write(base.join("cgroup.subtree_control"), "memory").unwrap();
            });
            cgroups.base.set(base).unwrap();
            cgroups.check(limits).err()
        };
        let own = "0::/a.slice/emperord.service\n";
        let (memory, cpu) = (Limits { memory: Some(1), cpu: None }, Limits { memory: Some(1), cpu: Some(1) });
        assert_eq!(refused(mount.path(), own, memory), None);
        let error = refused(mount.path(), own, cpu).unwrap();
        assert!(error.starts_with("`limits.cpu` cannot be followed: the cgroup "), "{error}");
        assert!(error.contains("has no controller `cpu`: give emperord a cgroup v2 of its own"), "{error}");
        for (mount, own) in [(Path::new("/proc"), own), (mount.path(), "1:name=systemd:/x\n")] {
            let error = refused(mount, own, memory).unwrap();
            assert!(
                error.contains("`limits.memory` cannot be followed: this system has no cgroup v2:"),
                "{error}"
            );
        }
    }
}
