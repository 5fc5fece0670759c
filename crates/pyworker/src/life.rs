//! The lifecycle of a worker, from receiving its spec to its exit.

mod allocator;
mod attach;
mod control;
mod end;
pub(crate) mod exit_hooks;
mod health;
mod memory;
mod prepare;
mod serve;
mod startup;
pub(crate) mod template;
mod watchdog;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::WorkerName;
use api::worker::Spec;
use daemon::notify::{Notify as Manager, State};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use self::attach::{Attachment, Life};
use self::control::Control;
use self::exit_hooks::ExitHooks;
use crate::executor::live_spec::LiveSpec;
use crate::link::exchanges::Exchanges;
use crate::link::socket::Place;
use crate::python::driver::Driver;
use crate::python::faulthandler::CrashFile;
use crate::python::{faulthandler, forked, imperium, log, process, sigterm};

/// Exit status of a worker that finished normally.
const EXIT_ORDERLY: i32 = 0;
/// Exit status of a worker that has to be restarted.
const EXIT_CHANGED: i32 = 1;
/// Exit status of a worker whose app can't be imported.
pub(crate) const EXIT_IMPORT: i32 = 3;
/// Exit status of a worker that failed because of the operating system.
const EXIT_SYSTEM: i32 = 4;

/// How long it tries to report its end to emperord.
const END_REPORT_LIMIT: Duration = Duration::from_secs(5);

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
    let manager = service_manager(py)?;
    let errors = set_up(py)?;
    live(py, arguments, App::ToImport, &errors, &manager)
}

/// Like `run`, in a process that was forked after the app was imported.
pub(crate) fn run_forked(
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

/// The setup shared by all processes that import an app. Starts no thread. Returns `wsgi.errors`.
pub(crate) fn set_up(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    allocator::keep_freed_memory();
    process::leave_terminal();
    let errors = log::replace_standard_files(py)?;
    let environ = py.import("os")?.getattr("environ")?;
    for ours in ["IMPERIUM_LOG", daemon::logging::copy::VARIABLE] {
        environ.call_method1("pop", (ours, py.None()))?;
    }
    sigterm::leave_to_children(py)?;
    faulthandler::enable(py)?;
    Ok(errors)
}

/// The service manager, if workers are systemd units. Its variable is hidden from the app.
fn service_manager(py: Python<'_>) -> PyResult<Manager> {
    let environ = py.import("os")?.getattr("environ")?;
    let socket: Option<OsString> =
        environ.call_method1("pop", ("IMPERIUM_NOTIFY_SOCKET", py.None()))?.extract()?;
    Ok(Manager::to(socket.as_deref()))
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
    if spec.threads > 1 {
        worker.driver.run_many_threads();
    }
    let crash_file = crash_file(py, &spec);
    let prepared = worker.prepare(py, &spec, app, errors);
    drop(crash_file);
    match prepared {
        Ok(wsgi) => {
            manager.report(State::Ready);
            worker.serve(py, &wsgi, spec.threads)?;
        }
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

/// In development, emperord shows the stack of a crash to the developer: once, however often the start is tried.
fn crash_file(py: Python<'_>, spec: &Spec) -> Option<CrashFile> {
    let opened = spec.development.then(|| CrashFile::open(py, spec.socket.as_ref()))?;
    opened.inspect_err(|error| tracing::debug!(%error, "the stack of a crash goes to the log")).ok()?
}

/// What all threads of a worker share.
struct Worker {
    driver: Arc<Driver>,
    exchanges: Arc<Exchanges>,
    life: Arc<watch::Sender<Life>>,
    place: Arc<OnceLock<Place>>,
    /// Requested by a signal handler of the app. Has the same effect as SIGTERM.
    end_asked: Arc<Notify>,
    exit_hooks: Arc<ExitHooks>,
    spec: Arc<LiveSpec>,
}

/// Resolves once emperord knows that this worker exits.
type EndReported = oneshot::Receiver<()>;

impl Worker {
    /// Starts I/O: from now on, the worker is attached to emperord and follows its commands.
    fn start(arguments: &Arguments) -> PyResult<(Arc<Self>, oneshot::Receiver<Spec>, EndReported)> {
        let life = Life { generation: arguments.generation, ..Life::default() };
        let worker = Arc::new(Self {
            driver: Driver::start()?,
            exchanges: Arc::default(),
            life: Arc::new(watch::Sender::new(life)),
            place: Arc::default(),
            end_asked: Arc::default(),
            exit_hooks: Arc::default(),
            spec: Arc::default(),
        });
        imperium::is_worker(&arguments.worker, &worker.exchanges, &worker.driver);
        let (commands, obeyed) = mpsc::channel(8);
        let (waiting, spec) = oneshot::channel();
        let (reported, end_reported) = oneshot::channel();

        let Self { exchanges, life, place, end_asked, exit_hooks, spec: live_spec, .. } = &*worker;
        let control = Control::new(
            Arc::clone(exchanges),
            Arc::clone(life),
            Arc::clone(place),
            waiting,
            Arc::clone(exit_hooks),
            Arc::clone(live_spec),
        );
        worker.driver.spawn(control.run(obeyed, Arc::clone(end_asked)));

        let (exchanges, live_spec) = (Arc::clone(exchanges), Arc::clone(live_spec));
        let (name, life, socket) =
            (arguments.worker.to_string(), life.subscribe(), arguments.emperord.clone());
        // A channel can be created only inside the runtime.
        let attach = async move {
            let channel = daemon::uds::channel(&socket, |it| it);
            Attachment::new(channel, &name, life, commands, exchanges, live_spec).run().await;
            let _ended = reported.send(());
        };
        worker.driver.spawn(attach);
        Ok((worker, spec, end_reported))
    }
}
