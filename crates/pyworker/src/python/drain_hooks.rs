//! Functions of the app that are called when this worker begins to drain (`imperium.on_drain`).

use std::thread;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::traceback;

static HOOKS: Mutex<Hooks> = Mutex::new(Hooks { are_called: false, waiting: Vec::new() });

struct Hooks {
    /// This worker drains.
    are_called: bool,
    waiting: Vec<Py<PyAny>>,
}

/// Registers a function. If this worker drains already, it is called soon.
#[pyfunction]
pub(crate) fn on_drain(hook: Py<PyAny>) {
    let mut hooks = HOOKS.lock();
    hooks.waiting.push(hook);
    if hooks.are_called {
        drop(hooks);
        call();
    }
}

/// Removes all registrations of a function, and of those that are equal to it. Returns their number.
#[pyfunction]
pub(crate) fn remove_on_drain(hook: &Bound<'_, PyAny>) -> PyResult<usize> {
    let py = hook.py();
    // Comparing them may run code of the app.
    let hooks: Vec<_> = HOOKS.lock().waiting.iter().map(|it| it.clone_ref(py)).collect();
    let mut removed = Vec::new();
    for other in hooks {
        if hook.eq(&other)? {
            removed.push(other);
        }
    }
    let mut left = Vec::new();
    let mut state = HOOKS.lock();
    let before = state.waiting.len();
    for other in std::mem::take(&mut state.waiting) {
        match removed.iter().any(|it| it.is(&other)) {
            true => removed.push(other),
            false => left.push(other),
        }
    }
    state.waiting = left;
    Ok(before - state.waiting.len())
}

/// Calls all functions, now that this worker drains. Never waits for Python.
pub(crate) fn call() {
    let hooks = {
        let mut hooks = HOOKS.lock();
        hooks.are_called = true;
        std::mem::take(&mut hooks.waiting)
    };
    if hooks.is_empty() {
        return;
    }
    let run = move || {
        let _python_has_ended = Python::try_attach(|py| {
            for hook in hooks {
                if let Err(error) = hook.call0(py) {
                    tracing::error!(
                        "a function given to `imperium.on_drain` raised an exception\n{}",
                        traceback::of(py, &error)
                    );
                }
            }
        });
    };
    if let Err(error) = thread::Builder::new().name("drain-hooks".to_owned()).spawn(run) {
        tracing::error!(%error, "start a thread for the functions given to `imperium.on_drain`");
    }
}
