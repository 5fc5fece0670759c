//! The extension module that turns the app's own Python into a worker: it imports the app, receives requests
//! from frontd over gRPC, and attaches to emperord. Only this crate knows Python.

mod asgi;
mod executor;
mod life;
mod link;
mod python;
mod wsgi;

/// Loaded by `workerd`'s bootstrap code.
#[pyo3::pymodule]
mod _imperium {
    use std::path::PathBuf;

    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::life::exit_hooks::on_worker_exit;
    use crate::life::template;
    use crate::life::{self, Arguments};
    #[pymodule_export]
    use crate::python::drain_hooks::{on_drain, remove_on_drain};
    #[pymodule_export]
    use crate::python::imperium::{app_name, on_fork, request_id, worker_id, worker_name};
    #[pymodule_export]
    use crate::python::interrupt::{ClientGone, RequestTimeout};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::python::imperium::install(module)
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
        life::run(py, &Arguments::new(worker, emperord, log_format, generation)?)
    }

    /// Runs an app's template on the main thread until it exits. Returns also in the workers that it forks.
    #[pyfunction]
    fn run_template(py: Python<'_>, app: &str, emperord: PathBuf, log_format: &str) -> PyResult<i32> {
        template::run(py, app, emperord, log_format)
    }
}
