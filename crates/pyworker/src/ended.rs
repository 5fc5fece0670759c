//! Processes of other workers that have ended, and what the app does about each (`imperium.on_worker_exit`).

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::Notify;

use crate::traceback;

static HOOKS: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());

/// Processes that have ended, and that the app was not told of yet.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pids: Mutex<Vec<u32>>,
    main_thread: Arc<Notify>,
}

impl Ended {
    /// One more, which the main thread is to deal with when it is free.
    pub(crate) fn add(&self, pid: u32) {
        self.pids.lock().push(pid);
        self.main_thread.notify_one();
    }

    /// Tells the main thread that it has something to do.
    pub(crate) fn main_thread(&self) -> Arc<Notify> {
        Arc::clone(&self.main_thread)
    }

    /// Calls the app's hooks for all of them. For the main thread.
    pub(crate) fn run_hooks(&self, py: Python<'_>) {
        let pids = std::mem::take(&mut *self.pids.lock());
        if pids.is_empty() {
            return;
        }
        // A hook may give more, which are called for the next.
        let hooks: Vec<_> = HOOKS.lock().iter().map(|hook| hook.clone_ref(py)).collect();
        for pid in pids {
            for hook in &hooks {
                if let Err(error) = hook.call1(py, (pid,)) {
                    let traceback = traceback::of(py, &error);
                    tracing::error!(
                        pid,
                        "a function given to `imperium.on_worker_exit` raised an exception\n{traceback}"
                    );
                }
            }
        }
    }
}

#[pyfunction]
pub(crate) fn on_worker_exit(hook: Py<PyAny>) {
    HOOKS.lock().push(hook);
}
