//! The part of the system's cgroup tree that belongs to emperord and its workers.
//!
//! ```text
//!   root ─── what was delegated to emperord, such as its unit's cgroup
//!   ├─ imperium-emperord ─── emperord itself, and `imperium up` if that runs it
//!   └─ imperium-workers
//!      ├─ blog-1
//!      └─ blog-2
//! ```
//!
//! A cgroup that contains processes can't enable controllers for its children (cgroups(7), "no internal
//! processes"). So all processes are in leaves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::getxattr;
use rustix::process::getppid;

use crate::pidfd::Identity;

const WORKERS: &str = "imperium-workers";
const OWN: &str = "imperium-emperord";
/// How systemd marks delegated cgroups (<https://systemd.io/CGROUP_DELEGATION>).
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// The subtree that emperord manages.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    is_delegated: bool,
}

/// The controllers that are enabled for the workers' cgroups.
#[derive(Debug)]
pub(super) struct Enabled {
    workers: PathBuf,
    controllers: String,
}

impl Tree {
    /// Finds the subtree. `mount` is the mount point of cgroup v2.
    ///
    /// # Errors
    /// With the reason if there is none.
    pub(super) fn find(mount: &Path) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(mount, &own)
    }

    /// Like [`Self::find`]. `own` is the content of `/proc/self/cgroup`.
    pub(super) fn of(mount: &Path, own: &str) -> Result<Self, String> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::"));
        let path = path.filter(|_| mount.join("cgroup.controllers").exists());
        let path = path.ok_or("this system has no cgroup v2")?;
        let own = mount.join(path.trim_start_matches('/'));
        let parent = own.parent().filter(|_| own != mount);
        let root = match parent {
            // emperord has moved itself into a leaf, or systemd has (`DelegateSubgroup=`).
            Some(parent) if own.ends_with(OWN) || (!is_marked(&own) && is_marked(parent)) => {
                parent.to_owned()
            }
            _ => own,
        };
        // A container has its own root, which nobody else manages.
        let is_of_container = root == mount && root.join("cgroup.type").exists();
        Ok(Self { is_delegated: is_of_container || is_marked(&root), root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The parent of the workers' cgroups.
    pub(super) fn workers(&self) -> PathBuf {
        self.root.join(WORKERS)
    }

    /// Whether nobody else manages the subtree, as far as known.
    pub(super) fn is_delegated(&self) -> bool {
        self.is_delegated
    }

    /// Moves emperord into a leaf, together with `imperium up` and its processes if that started emperord.
    ///
    /// # Errors
    /// With the step that failed.
    pub(super) fn leave_root(&self) -> Result<(), String> {
        let there = processes(&self.root);
        let own = std::process::id();
        let up = getppid().and_then(|it| u32::try_from(it.as_raw_pid()).ok()).filter(|it| is_imperium(*it));
        let is_ours = |pid: u32| {
            let parent = || Identity::of(pid).and_then(|it| it.parent());
            pid == own || Some(pid) == up || (up.is_some() && parent() == up)
        };
        let ours: Vec<u32> = there.into_iter().filter(|it| is_ours(*it)).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let leaf = self.root.join(OWN);
        make_folder(&leaf).map_err(|error| failed("make cgroup", &leaf, &error))?;
        for pid in ours {
            let moved = fs::write(leaf.join("cgroup.procs"), pid.to_string());
            moved.map_err(|error| failed(&format!("move process {pid} to"), &leaf, &error))?;
        }
        Ok(())
    }

    /// Enables those of the `wanted` controllers that are available for the workers' cgroups.
    ///
    /// # Errors
    /// With the step that failed.
    pub(super) fn enable(&self, wanted: &[&str]) -> Result<Enabled, String> {
        let workers = self.workers();
        make_folder(&workers).map_err(|error| failed("make cgroup", &workers, &error))?;
        let there = words(&self.root.join("cgroup.controllers"));
        let wanted: Vec<&str> = wanted.iter().copied().filter(|it| has_word(&there, it)).collect();
        self.pass_on(&self.root, &wanted)?;
        self.pass_on(&workers, &wanted)?;
        let controllers = words(&workers.join("cgroup.subtree_control"));
        Ok(Enabled { workers, controllers })
    }

    fn pass_on(&self, cgroup: &Path, controllers: &[&str]) -> Result<(), String> {
        let control = cgroup.join("cgroup.subtree_control");
        let on = words(&control);
        let missing = controllers.iter().filter(|it| !has_word(&on, it)).map(|it| format!("+{it}"));
        let missing = missing.collect::<Vec<_>>().join(" ");
        if missing.is_empty() {
            return Ok(());
        }
        let write = || fs::write(&control, &missing);
        let written = match write() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && cgroup == self.root => {
                self.leave_root()?;
                write()
            }
            written => written,
        };
        written.map_err(|error| match processes(cgroup).first() {
            Some(pid) if error.kind() == io::ErrorKind::ResourceBusy => {
                format!("process {pid}{} is in {}, too", name(*pid), cgroup.display())
            }
            _ => failed("pass controllers on in", cgroup, &error),
        })
    }
}

impl Enabled {
    /// Checks that a controller is enabled.
    ///
    /// # Errors
    /// With the name of the controller and the cgroup.
    pub(super) fn has(&self, controller: &str) -> Result<(), String> {
        match has_word(&self.controllers, controller) {
            true => Ok(()),
            false => Err(format!("the cgroup {} has no controller `{controller}`", self.workers.display())),
        }
    }
}

/// Creates a cgroup, if it doesn't exist.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn failed(step: &str, path: &Path, error: &io::Error) -> String {
    format!("{step} {}: {error}", path.display())
}

fn words(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_ascii_whitespace().any(|it| it == word)
}

fn is_marked(cgroup: &Path) -> bool {
    MARKS.iter().any(|mark| {
        let mut value = [0; 8];
        getxattr(cgroup, *mark, &mut value[..]).is_ok_and(|length| value[..length] == *b"1")
    })
}

fn processes(cgroup: &Path) -> Vec<u32> {
    words(&cgroup.join("cgroup.procs")).lines().filter_map(|it| it.parse().ok()).collect()
}

/// The name of a process for messages. Empty if unknown.
fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.is_empty() { name } else { format!(" ({})", name.trim_end()) }
}

/// Whether a process runs the `imperium` program from emperord's own folder.
fn is_imperium(pid: u32) -> bool {
    let own = std::env::current_exe().ok();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    exe.zip(own).is_some_and(|(exe, own)| exe.ends_with("imperium") && exe.parent() == own.parent())
}
