//! Checks that a stack leaves nothing behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use crate::process::{self, Process};

/// Returns those of the `known` processes that are still running, and all others with the mark. They are
/// killed, so that a failed test doesn't disturb the next one.
pub(crate) fn processes(known: Vec<Process>, mark: &str) -> Vec<Process> {
    let mut left: Vec<_> = known.into_iter().filter(Process::is_running).collect();
    let marked = Process::with_environment(mark);
    left.extend(marked.into_iter().filter(|it| !known_already(&left, it)).collect::<Vec<_>>());
    for process in &left {
        let _it_may_end_meanwhile = process::signal(process.pid, Signal::KILL);
    }
    left
}

fn known_already(left: &[Process], process: &Process) -> bool {
    left.iter().any(|it| it.pid == process.pid)
}

/// Checks that the folder contains no unix socket, and that the addresses can be bound.
pub(crate) fn sockets(run: &Path, addresses: [SocketAddr; 3]) -> anyhow::Result<()> {
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry?;
            let kind = entry.file_type()?;
            ensure!(!kind.is_socket(), "{} was left", entry.path().display());
            folders.extend(kind.is_dir().then(|| entry.path()));
        }
    }
    for address in addresses {
        TcpListener::bind(address).with_context(|| format!("{address} is still taken"))?;
    }
    Ok(())
}
