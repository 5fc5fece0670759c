//! The life of a worker, from receiving its spec to its exit.

mod allocator;
mod attach;
mod control;
mod drain;
mod end;
pub(crate) mod exit_hooks;
mod health;
mod memory;
mod prepare;
mod serve;
mod start;
mod start_limit;
mod state;
pub(crate) mod template;
mod watchdog;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use api::WorkerName;
use api::worker::{Failed, Interface, Spec};
use daemon::notify::{Notify as Manager, State};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::watch;

use self::exit_hooks::ExitHooks;
use self::prepare::Loaded;
use self::state::WorkerState;
use crate::asgi::EventLoop;
use crate::executor::{Executor, Host};
use crate::link::socket::SocketFile;
use crate::python::{forked, process, sigterm};
use crate::wsgi::Threads;

/// Exit status of a worker that finished normally.
const EXIT_ORDERLY: i32 = 0;
/// Exit status of a worker that has to be restarted.
const EXIT_CHANGED: i32 = 1;
/// Exit status of a worker whose app can't be imported.
const EXIT_IMPORT: i32 = 3;
/// Exit status of a worker that failed because of the operating system.
const EXIT_SYSTEM: i32 = 4;

/// The arguments that workerd passed to the interpreter.
pub(crate) struct Arguments {
    worker: WorkerName,
    emperord: PathBuf,
    log_format: daemon::logging::Format,
    generation: u64,
}

impl Arguments {
    /// Parses the arguments.
    pub(crate) fn new(worker: &str, emperord: PathBuf, log_format: &str, generation: u64) -> PyResult<Self> {
        let worker = WorkerName::parse(worker).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let log_format = log_format.parse().map_err(PyValueError::new_err)?;
        Ok(Self { worker, emperord, log_format, generation })
    }
}

/// Runs a worker until it exits. Returns the exit status.
pub(crate) fn run(py: Python<'_>, arguments: &Arguments) -> PyResult<i32> {
    let _last_lines = daemon::logging::init(&arguments.worker.to_string(), arguments.log_format);
    set_title(&arguments.worker);
    let manager = start::service_manager(py)?;
    let errors = start::set_up(py)?;
    live(py, arguments, App::ToImport, &errors, &manager)
}

/// Like `run`, in a process that was forked after the app was imported.
fn run_forked(
    py: Python<'_>,
    arguments: &Arguments,
    app: Bound<'_, PyAny>,
    errors: &Bound<'_, PyAny>,
) -> PyResult<i32> {
    daemon::logging::rename(&arguments.worker.to_string());
    set_title(&arguments.worker);
    process::seed_random();
    live(py, arguments, App::Imported(app), errors, &Manager::to(None))
}

fn set_title(worker: &WorkerName) {
    process::set_title(&format!("imperium: {} [{}]", worker.vassal, worker.number), "workerd");
}

/// The app of a starting worker.
enum App<'py> {
    ToImport,
    Imported(Bound<'py, PyAny>),
}

fn live<'py>(
    py: Python<'py>,
    arguments: &Arguments,
    app: App<'py>,
    errors: &Bound<'py, PyAny>,
    manager: &Manager,
) -> PyResult<i32> {
    let (worker, spec, end_reported) = Worker::start(arguments)?;
    let spec = worker
        .host
        .driver
        .wait_outside(py, spec)
        .map_err(|_| PyRuntimeError::new_err("wait for the spec: nothing requests it"))?;
    if spec.generation != arguments.generation {
        tracing::warn!(
            "the app was changed while this worker started: ending, to be started with what is new"
        );
        process::exit_now(EXIT_CHANGED);
    }
    forked::contain(py, [spec.socket.clone().into(), arguments.emperord.clone()])?;
    let loaded = match worker.load(py, &spec, app) {
        Ok(loaded) => loaded,
        Err(failed) => worker.fail(py, failed, end_reported, &spec),
    };
    let served = match loaded.interface {
        Interface::Asgi => worker.serve_as::<EventLoop>(py, &spec, loaded, errors, manager),
        Interface::Wsgi | Interface::Unspecified => {
            worker.serve_as::<Threads>(py, &spec, loaded, errors, manager)
        }
    };
    match served {
        Ok(served) => served?,
        Err(failed) => worker.fail(py, failed, end_reported, &spec),
    }
    worker.end(py, end_reported);
    if worker.exit_hooks.has_given_up() {
        // Python would wait for the hook's thread, or crash into it.
        process::exit_now(EXIT_ORDERLY);
    }
    sigterm::stop_handling(py)?;
    Ok(EXIT_ORDERLY)
}

impl Worker {
    /// Starts an executor, and serves until this worker is drained.
    fn serve_as<'py, E: Executor>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        loaded: Loaded<'py>,
        errors: &Bound<'py, PyAny>,
        manager: &Manager,
    ) -> Result<PyResult<()>, Failed> {
        let executor = self.prepare::<E>(py, spec, loaded, errors)?;
        manager.report(State::Ready);
        Ok(self.serve(py, &executor))
    }
}

/// What all parts of a worker share.
struct Worker {
    host: Host,
    state: Arc<watch::Sender<WorkerState>>,
    socket: Arc<OnceLock<SocketFile>>,
    exit_hooks: Arc<ExitHooks>,
}
