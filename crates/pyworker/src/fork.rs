//! Forks a worker from a template, so that emperord is its parent.
#![expect(unsafe_code, reason = "Rust has no fork(2) that goes on with the same program")]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

use pyo3::prelude::*;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::process;

/// Which of the two processes that leave a fork this is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The template, and which process it has forked.
    Template(u32),
    /// The worker.
    Worker,
}

/// Forks twice: the process between ends at once, and so the worker is inherited by emperord, who takes in all
/// orphans below it (`PR_SET_CHILD_SUBREAPER`) and learns how it ends, as of any worker.
///
/// Python and the app know of the second fork alone, and have their hooks called for that one.
///
/// # Errors
/// When a process cannot be made. For a process of one thread, which is what a template is.
pub(crate) fn fork(py: Python<'_>) -> PyResult<Side> {
    let (told, tell) = io::pipe()?;
    // SAFETY: this process has one thread, so that no lock is held by another that the child would not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => between(py, told, tell),
        child => {
            drop(tell);
            let worker = read_pid(told);
            let _it_ends_at_once = Pid::from_raw(child).map(|it| waitpid(Some(it), WaitOptions::empty()));
            Ok(Side::Template(worker?))
        }
    }
}

/// In the process between.
fn between(py: Python<'_>, told: PipeReader, mut tell: PipeWriter) -> PyResult<Side> {
    drop(told);
    match py.import("os").and_then(|os| os.call_method0("fork")?.extract::<u32>()) {
        Ok(0) => {
            drop(tell);
            // A group of its own, as one that emperord starts has.
            rustix::process::setpgid(None, None).map_err(io::Error::from)?;
            Ok(Side::Worker)
        }
        Ok(worker) => {
            let _the_template_is_gone = tell.write_all(&worker.to_ne_bytes());
            process::exit_now(0)
        }
        Err(error) => {
            tracing::error!("fork a worker: {error}");
            process::exit_now(1)
        }
    }
}

fn read_pid(mut told: PipeReader) -> io::Result<u32> {
    let mut pid = [0; 4];
    told.read_exact(&mut pid).map_err(|_| io::Error::other("the second fork failed: see the log"))?;
    Ok(u32::from_ne_bytes(pid))
}
