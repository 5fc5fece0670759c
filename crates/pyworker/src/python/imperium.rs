//! The module `imperium`, through which the app can query the worker that runs it.
//!
//! Its source is part of this extension, so it doesn't have to be installed. An app's own module of that name
//! takes precedence, and so does an installed copy, which behaves the same.

use std::sync::{Arc, OnceLock};

use api::WorkerName;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

use super::driver::Driver;
use crate::link::active::ActiveRequest;
use crate::link::requests::Requests;
use crate::link::token::CallToken;

const NAME: &str = "imperium";
const SOURCE: &str = include_str!("../../python/imperium/__init__.py");

static APP: OnceLock<String> = OnceLock::new();
static WORKER: OnceLock<Worker> = OnceLock::new();
static THIS_CALL: OnceLock<ThisCall> = OnceLock::new();
static FORK_HOOKS: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());

/// Returns the call that the calling code belongs to, which need not be that of a request.
type ThisCall = fn(Python<'_>) -> Option<CallToken>;

/// The worker that runs in this process.
struct Worker {
    name: WorkerName,
    requests: Arc<Requests>,
    driver: Arc<Driver>,
}

/// Makes `imperium` importable. `native` is this extension.
pub(crate) fn install(native: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = native.py();
    let sys = py.import("sys")?;
    sys.getattr("modules")?.set_item("_imperium", native)?;
    sys.getattr("meta_path")?.call_method1("append", (Finder,))?;
    Ok(())
}

/// Sets the name of the app that this process runs.
pub(crate) fn set_app(app: &str) {
    APP.get_or_init(|| app.to_owned());
}

/// Sets the worker that runs in this process.
pub(crate) fn set_worker(name: &WorkerName, requests: &Arc<Requests>, driver: &Arc<Driver>) {
    set_app(&name.vassal.to_string());
    WORKER.get_or_init(|| Worker {
        name: name.clone(),
        requests: Arc::clone(requests),
        driver: Arc::clone(driver),
    });
}

/// Sets how the executor, which is about to run, knows its calls.
pub(crate) fn set_this_call(this_call: ThisCall) {
    THIS_CALL.get_or_init(|| this_call);
}

/// The request that the app is being called for by the calling code, and the driver of its I/O.
pub(crate) fn this_request(py: Python<'_>) -> Option<(Arc<ActiveRequest>, &'static Driver)> {
    let worker = WORKER.get()?;
    let call = THIS_CALL.get()?(py)?;
    Some((worker.requests.find_call(call)?, &worker.driver))
}

/// Calls the app's `imperium.on_fork` hooks, in the order of their registration. Called in a worker after the
/// app is loaded.
///
/// # Errors
/// With the exception of the first hook that fails.
pub(crate) fn run_fork_hooks(py: Python<'_>) -> PyResult<()> {
    // A hook may register others, which aren't called any more.
    let hooks: Vec<_> = FORK_HOOKS.lock().iter().map(|hook| hook.clone_ref(py)).collect();
    hooks.iter().try_for_each(|hook| hook.call0(py).map(drop))
}

#[pyfunction]
pub(crate) fn app_name() -> Option<&'static str> {
    APP.get().map(String::as_str)
}

#[pyfunction]
pub(crate) fn worker_name() -> Option<String> {
    WORKER.get().map(|worker| worker.name.to_string())
}

#[pyfunction]
pub(crate) fn worker_id() -> Option<u32> {
    WORKER.get().map(|worker| worker.name.number.into())
}

#[pyfunction]
pub(crate) fn request_id(py: Python<'_>) -> Option<String> {
    this_request(py).map(|(active, _)| active.request_id().to_owned())
}

#[pyfunction]
pub(crate) fn on_fork(hook: Py<PyAny>) {
    FORK_HOOKS.lock().push(hook);
}

/// The last finder in `sys.meta_path`: it provides the module if no other finder has it.
#[pyclass(name = "Finder", module = "_imperium", frozen)]
struct Finder;

#[pymethods]
impl Finder {
    #[pyo3(signature = (name, path = None, target = None))]
    fn find_spec<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        path: Option<&Bound<'py, PyAny>>,
        target: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let _not_needed = (path, target);
        if name != NAME {
            return Ok(None);
        }
        let options = PyDict::new(slf.py());
        options.set_item("origin", "built into the worker")?;
        let machinery = slf.py().import("importlib.machinery")?;
        machinery.call_method("ModuleSpec", (NAME, slf), Some(&options)).map(Some)
    }

    fn create_module(&self, _spec: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        None
    }

    fn exec_module(&self, module: &Bound<'_, PyModule>) -> PyResult<()> {
        let builtins = module.py().import("builtins")?;
        let code = builtins.call_method1("compile", (SOURCE, "<imperium>", "exec"))?;
        builtins.call_method1("exec", (code, module.dict()))?;
        Ok(())
    }

    /// For `inspect` and tracebacks.
    fn get_source(&self, _name: &str) -> &'static str {
        SOURCE
    }
}
