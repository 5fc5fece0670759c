//! Limits memory and CPU time of processes that emperord starts itself: each worker runs in its own cgroup
//! (cgroup v2).
//!
//! No state is kept: each start checks again what emperord may do.

mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tree::Tree;

/// Where the system's cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The controllers that limits need.
const CONTROLLERS: [&str; 2] = ["memory", "cpu"];
/// The period for CPU quotas, in microseconds.
const PERIOD: u64 = 100_000;

/// The resource limits of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResourceLimits {
    /// In bytes. None means no limit.
    pub(crate) memory: Option<u64>,
    /// In percent of one CPU. None means no limit.
    pub(crate) cpu: Option<u32>,
}

/// The cgroups of this emperord's workers.
#[derive(Debug)]
pub struct Cgroups {
    mount: PathBuf,
    /// Cgroups that no process has entered yet: they must not be removed although they are empty.
    fresh: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// The cgroup of one worker, which may still be empty.
#[derive(Debug)]
pub(crate) struct Leaf {
    procs: File,
    path: PathBuf,
    fresh: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl ResourceLimits {
    pub(crate) fn is_none(self) -> bool {
        self.memory.is_none() && self.cpu.is_none()
    }

    /// The keys of the app's file that set them, each with the controller that it needs.
    fn keys(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let memory = self.memory.map(|_| ("limits.memory", "memory"));
        memory.into_iter().chain(self.cpu.map(|_| ("limits.cpu", "cpu")))
    }
}

impl Default for Cgroups {
    fn default() -> Self {
        Self { mount: MOUNT.into(), fresh: Arc::default() }
    }
}

impl Cgroups {
    /// Prepares emperord's own cgroup, if it was delegated, for the workers' cgroups. Called before the first
    /// worker starts.
    pub fn settle(&self) {
        let Ok(tree) = Tree::find(&self.mount) else { return };
        if !tree.is_delegated() {
            return;
        }
        if let Err(error) = tree.leave_root() {
            // This is normal in a container. If an app sets a limit, `check` refuses it.
            tracing::debug!(cgroup = %tree.root().display(), error, "emperord stays in its cgroup");
        }
    }

    /// Checks that limits can be set.
    ///
    /// # Errors
    /// With the key that can't be applied, the reason, and what to do.
    pub(crate) fn check(&self, limits: ResourceLimits) -> Result<(), String> {
        for (key, controller) in limits.keys() {
            let enabled = Tree::find(&self.mount).and_then(|it| it.enable(&CONTROLLERS)?.has(controller));
            enabled.map_err(|why| {
                format!(
                    "`{key}` cannot be applied: {why}: give emperord a cgroup v2 of its own (`Delegate=yes` and \
                     `DelegateSubgroup=emperord` in its unit), run it with `--launcher systemd`, or leave `{key}` out"
                )
            })?;
        }
        Ok(())
    }

    /// Creates the cgroup of a worker. Without limits, it is only created if emperord's own was delegated, so
    /// that limits can be added later.
    ///
    /// # Errors
    /// If there are limits that can't be set.
    pub(crate) fn leaf(&self, worker: &str, limits: ResourceLimits) -> io::Result<Option<Leaf>> {
        let tree = Tree::find(&self.mount);
        if !limits.is_none() {
            let tree = tree.map_err(io::Error::other)?;
            let enabled = tree.enable(&CONTROLLERS).map_err(io::Error::other)?;
            limits.keys().try_for_each(|(_, it)| enabled.has(it)).map_err(io::Error::other)?;
            return self.make(&tree, worker, limits).map(Some);
        }
        let Some(tree) = tree.ok().filter(Tree::is_delegated) else { return Ok(None) };
        let made = self.make(&tree, worker, limits);
        Ok(made.inspect_err(|error| tracing::debug!(worker, %error, "worker has no cgroup of its own")).ok())
    }

    fn make(&self, tree: &Tree, worker: &str, limits: ResourceLimits) -> io::Result<Leaf> {
        let workers = tree.workers();
        tree::make_folder(&workers)?;
        let path = workers.join(worker);
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        remove_empty(&workers, &fresh);
        tree::make_folder(&path)?;
        // The previous worker's children may still be in it, with its limits.
        set(&path.join("memory.max"), limits.memory.map(|it| it.to_string()))?;
        let share = limits.cpu.map(|percent| u64::from(percent) * PERIOD / 100);
        set(&path.join("cpu.max"), share.map(|it| format!("{it} {PERIOD}")))?;
        let procs = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        fresh.insert(path.clone());
        Ok(Leaf { procs, path, fresh: Arc::clone(&self.fresh) })
    }
}

impl Leaf {
    /// Moves a process into the cgroup; 0 stands for the caller. Makes only system calls, so it can be used
    /// between fork and exec.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        let mut text = [0_u8; 10];
        let mut left = &mut text[..];
        write!(left, "{pid}")?;
        let free = left.len();
        let used = text.len() - free;
        (&self.procs).write_all(&text[..used])
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

/// Sets a limit or removes it. A missing file means that there is no limit to remove.
fn set(file: &Path, limit: Option<String>) -> io::Result<()> {
    match limit {
        Some(limit) => fs::write(file, limit),
        None if file.exists() => fs::write(file, "max"),
        None => Ok(()),
    }
}

/// Removes the cgroups of workers that have exited. The kernel keeps those that contain processes.
fn remove_empty(workers: &Path, fresh: &BTreeSet<PathBuf>) {
    for path in fs::read_dir(workers).into_iter().flatten().flatten().map(|it| it.path()) {
        if !fresh.contains(&path) {
            let _in_use = fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests;
