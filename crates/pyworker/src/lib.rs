//! The extension module that turns the app's own Python into a worker: it imports the app, receives requests
//! from frontd over gRPC, and attaches to emperord. Only this crate knows Python.

mod allocator;
mod attach;
mod batch;
mod body;
mod cause;
mod chunks;
mod control;
mod deadline;
mod driver;
mod exchange;
mod exchanges;
mod exit_hooks;
mod faulthandler;
mod fork;
mod forked;
mod handoff;
mod health;
mod import;
mod ingress;
mod inherited;
mod inside;
mod interrupt;
mod live_spec;
mod log;
mod memory;
mod peers;
mod process;
mod session;
mod signals;
mod sigterm;
mod socket;
mod startup;
mod template;
mod thread;
mod traceback;
mod watch;
mod worker;
mod wsgi;

/// Loaded by `workerd`'s bootstrap code.
#[pyo3::pymodule]
mod _imperium {
    use std::path::PathBuf;

    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::exit_hooks::on_worker_exit;
    #[pymodule_export]
    use crate::inside::{app_name, on_fork, request_id, worker_id, worker_name};
    #[pymodule_export]
    use crate::interrupt::{ClientGone, RequestTimeout};
    use crate::template;
    use crate::worker::{self, Arguments};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::inside::install(module)
    }

    /// Runs the worker on the main thread until it exits. Returns the exit status.
    #[pyfunction]
    fn run(
        py: Python<'_>,
        worker: &str,
        emperord: PathBuf,
        log_format: &str,
        generation: u64,
    ) -> PyResult<i32> {
        worker::run(py, &Arguments::new(worker, emperord, log_format, generation)?)
    }

    /// Runs an app's template on the main thread until it exits. Returns also in the workers that it forks.
    #[pyfunction]
    fn run_template(py: Python<'_>, app: &str, emperord: PathBuf, log_format: &str) -> PyResult<i32> {
        template::run(py, app, emperord, log_format)
    }
}
