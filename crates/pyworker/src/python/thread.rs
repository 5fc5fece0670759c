//! A thread that runs Python: how to signal it, raise an exception in it, and read its stack.
#![expect(unsafe_code, reason = "raising in another thread, and signalling it, are C's")]

use std::num::NonZeroU32;

use pyo3::exceptions::PyKeyError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A Python thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId {
    /// As returned by `threading.get_ident()`.
    ident: u64,
    /// The kernel's thread id.
    id: NonZeroU32,
}

impl ThreadId {
    /// The calling thread.
    pub(crate) fn current() -> Self {
        // SAFETY: has no precondition.
        let ident = unsafe { ffi::PyThread_get_thread_ident() };
        Self { ident, id: current_id() }
    }

    /// The kernel's thread id.
    pub(crate) fn id(self) -> NonZeroU32 {
        self.id
    }

    /// Whether this is the main thread, in which Python runs signal handlers.
    pub(crate) fn is_main(self) -> bool {
        self.id.get() == std::process::id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(self, signal: i32) {
        let process = std::process::id().cast_signed();
        // SAFETY: takes only numbers. An unknown thread or signal causes an error.
        let _it_has_ended = unsafe { libc::syscall(libc::SYS_tgkill, process, self.id.get(), signal) };
    }

    /// Raises `class` in it, once it runs Python code again. The caller knows that the thread is still running
    /// what has to be interrupted: it holds the GIL, as does `forget`, which is called afterwards.
    pub(crate) fn raise(self, class: &Bound<'_, PyType>) {
        self.set_pending(class.as_ptr());
    }

    /// Cancels an exception that hasn't been raised yet.
    pub(crate) fn forget(self, _py: Python<'_>) {
        self.set_pending(std::ptr::null_mut());
    }

    /// Sets the exception to raise once it runs Python code again; a null pointer cancels it. Requires the GIL.
    fn set_pending(self, exception: *mut ffi::PyObject) {
        // SAFETY: the caller holds the GIL. The exception is null or a class that is never freed.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.ident.cast_signed(), exception) };
    }

    /// Its stack, formatted like a traceback.
    pub(crate) fn stack(self, py: Python<'_>) -> PyResult<String> {
        let frames = py.import("sys")?.call_method0("_current_frames")?;
        let frame = frames.get_item(self.ident);
        let frame = frame.map_err(|error| match error.is_instance_of::<PyKeyError>(py) {
            true => PyKeyError::new_err("the thread isn't running Python code"),
            false => error,
        })?;
        let lines =
            py.import("traceback")?.call_method1("format_stack", (frame,))?.extract::<Vec<String>>()?;
        Ok(format!("Stack (most recent call last):\n{}", lines.concat().trim_end()))
    }
}

/// The kernel's id of the calling thread.
pub(crate) fn current_id() -> NonZeroU32 {
    rustix::thread::gettid().as_raw_nonzero().cast_unsigned()
}
