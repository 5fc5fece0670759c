//! Forks a worker from a template, so that emperord is its parent.
#![expect(
    unsafe_code,
    reason = "Rust has no fork(2) that goes on with the same program, and Python's own forks once"
)]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

use pyo3::ffi;
use pyo3::prelude::*;
use rustix::process::{Pid, WaitOptions, waitpid};

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
/// Python and the app see one fork, as by `os.fork()`: their hooks run before it in the template, where threads that
/// hold a lock can still give it back, and after it in the template and in the worker. None runs in the process between.
///
/// # Errors
/// When a process cannot be made.
pub(crate) fn fork(_py: Python<'_>) -> PyResult<Side> {
    let (told, tell) = io::pipe()?;
    // SAFETY: the GIL is held; each of the two processes that go on runs its other half below.
    unsafe { ffi::PyOS_BeforeFork() };
    // SAFETY: as for `os.fork()`. Other threads are those of the log, which share no lock with the child
    // (`daemon::output`), and those of an app whose file allows them.
    let forked = match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => between(tell),
        child => {
            drop(tell);
            let worker = read_pid(told);
            let _it_ends_at_once = Pid::from_raw(child).map(|it| waitpid(Some(it), WaitOptions::empty()));
            worker.map(Side::Template)
        }
    };
    if matches!(forked, Ok(Side::Worker)) {
        // SAFETY: the GIL is held, by the only thread of a new process.
        unsafe { ffi::PyOS_AfterFork_Child() };
        // A group of its own, as one that emperord starts has.
        rustix::process::setpgid(None, None).map_err(io::Error::from)?;
    } else {
        // SAFETY: the GIL is held, as it was before.
        unsafe { ffi::PyOS_AfterFork_Parent() };
    }
    Ok(forked?)
}

/// In the process between, which runs nothing of Python's. Comes back in the worker.
fn between(mut tell: PipeWriter) -> io::Result<Side> {
    // SAFETY: this process has one thread; the C library has put its own locks in order for it.
    let code = match unsafe { libc::fork() } {
        -1 => 1,
        0 => return Ok(Side::Worker),
        worker => {
            let _the_template_is_gone = tell.write_all(&worker.to_ne_bytes());
            0
        }
    };
    // SAFETY: has no precondition. Nothing is flushed here: what waits to be written is the template's.
    unsafe { libc::_exit(code) }
}

fn read_pid(mut told: PipeReader) -> io::Result<u32> {
    let mut pid = [0; 4];
    told.read_exact(&mut pid)
        .map_err(|_| io::Error::other("the second fork failed: no process can be made"))?;
    Ok(u32::from_ne_bytes(pid))
}
