//! Forks a worker from a template so that emperord becomes its parent.
#![expect(
    unsafe_code,
    reason = "Rust has no fork(2) that goes on with the same program, and Python's own forks once"
)]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

use pyo3::ffi;
use pyo3::prelude::*;
use rustix::process::{Pid, WaitOptions, waitpid};

/// Which process returns from a fork.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The template, with the pid of the worker.
    Template(u32),
    /// The worker.
    Worker,
}

/// Forks twice. The intermediate process exits at once, so the worker is reparented to emperord, which is a
/// child subreaper (`PR_SET_CHILD_SUBREAPER`) and reaps it like any other worker.
///
/// Python and the app see one fork, as by `os.fork()`: their hooks run before it in the template, where
/// threads can still release their locks, and after it in the template and in the worker. No hook runs in the
/// intermediate process.
///
/// # Errors
/// If a process can't be created.
pub(crate) fn fork(_py: Python<'_>) -> PyResult<Side> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: the GIL is held, and both resulting processes call the matching function below.
    unsafe { ffi::PyOS_BeforeFork() };
    // SAFETY: as for `os.fork()`. Other threads are those of the log, which share no lock with the child
    // (`daemon::output`), and those of an app whose file allows them.
    let forked = match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => between(writer),
        child => {
            drop(writer);
            let worker = read_pid(reader);
            let _it_ends_at_once = Pid::from_raw(child).map(|it| waitpid(Some(it), WaitOptions::empty()));
            worker.map(Side::Template)
        }
    };
    if matches!(forked, Ok(Side::Worker)) {
        // SAFETY: the GIL is held by the only thread of a new process.
        unsafe { ffi::PyOS_AfterFork_Child() };
        // Its own process group, like that of workers started by emperord.
        rustix::process::setpgid(None, None).map_err(io::Error::from)?;
    } else {
        // SAFETY: the GIL is held, as before the fork.
        unsafe { ffi::PyOS_AfterFork_Parent() };
    }
    Ok(forked?)
}

/// Runs in the intermediate process, without any Python code. Returns only in the worker.
fn between(mut writer: PipeWriter) -> io::Result<Side> {
    // SAFETY: this process has one thread, and the C library has reset its own locks.
    let code = match unsafe { libc::fork() } {
        -1 => 1,
        0 => return Ok(Side::Worker),
        worker => {
            let _the_template_is_gone = writer.write_all(&worker.to_ne_bytes());
            0
        }
    };
    // SAFETY: has no precondition. Nothing is flushed here, since buffered output belongs to the template.
    unsafe { libc::_exit(code) }
}

fn read_pid(mut reader: PipeReader) -> io::Result<u32> {
    let mut pid = [0; 4];
    reader
        .read_exact(&mut pid)
        .map_err(|_| io::Error::other("the second fork failed: no process can be made"))?;
    Ok(u32::from_ne_bytes(pid))
}
