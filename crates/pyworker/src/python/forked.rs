//! Handles processes that the app forks, which aren't workers: they close the worker's connections, so that
//! these end with the worker, and exit if they return from the app.
#![expect(unsafe_code, reason = "descriptors that this process did not open are known by number only")]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use rustix::net::SocketAddrUnix;

use super::process;

static FORKED: AtomicBool = AtomicBool::new(false);

/// From now on, forked processes close all sockets that are bound or connected to one of these paths.
pub(crate) fn contain(py: Python<'_>, sockets: [PathBuf; 2]) -> PyResult<()> {
    let in_child = PyCFunction::new_closure(py, None, None, move |_, _| {
        FORKED.store(true, Ordering::Relaxed);
        close_sockets(&sockets);
    })?;
    let options = PyDict::new(py);
    options.set_item("after_in_child", in_child)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&options))?;
    Ok(())
}

/// Exits if this process was forked by the app and has returned from the app as if it were the worker.
#[inline]
pub(crate) fn end_if_forked() {
    if FORKED.load(Ordering::Relaxed) {
        tracing::warn!(
            "a process that the app forked returned from the app: it exits here, as with os._exit(1)"
        );
        process::exit_now(1);
    }
}

/// Like `end_if_forked`, with the exception that the app raised: `sys.exit()` determines the exit status.
pub(crate) fn end_if_forked_by(py: Python<'_>, error: &PyErr) {
    if FORKED.load(Ordering::Relaxed) && error.is_instance_of::<PySystemExit>(py) {
        let code = error.value(py).getattr("code");
        let none_is_success = |it: &Bound<'_, PyAny>| if it.is_none() { Ok(0) } else { it.extract() };
        process::exit_now(code.and_then(|it| none_is_success(&it)).unwrap_or(1));
    }
}

fn close_sockets(paths: &[PathBuf]) {
    let descriptors: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in descriptors.into_iter().filter(|it| is_socket_at(*it, paths)) {
        // SAFETY: its owner in this copy of the worker's memory is never used again, see `end_if_forked`.
        unsafe { rustix::io::close(descriptor) };
    }
}

fn is_socket_at(descriptor: RawFd, paths: &[PathBuf]) -> bool {
    // SAFETY: this process has one thread, which has just listed its descriptors. An error is harmless.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // The socket is still bound to the temporary name of `daemon::uds::listen`, which has another extension.
    let peer = rustix::net::getpeername(socket).ok().flatten();
    let ends = [rustix::net::getsockname(socket).ok(), peer];
    ends.into_iter().flatten().any(|end| {
        let end = SocketAddrUnix::try_from(end).ok();
        let path = end.as_ref().and_then(SocketAddrUnix::path_bytes);
        let path = path.map(|it| Path::new(OsStr::from_bytes(it)).with_extension(""));
        path.is_some_and(|path| paths.iter().any(|it| it.with_extension("") == path))
    })
}
