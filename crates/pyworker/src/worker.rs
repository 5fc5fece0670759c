//! The life of a worker, from the spec to the end.

mod end;
mod prepare;
mod serve;

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

use crate::attach::{Attachment, Life};
use crate::control::Control;
use crate::driver::Driver;
use crate::exchanges::Exchanges;
use crate::exit_hooks::ExitHooks;
use crate::live_spec::LiveSpec;
use crate::socket::Place;
use crate::{faulthandler, forked, inside, log, process, sigterm};

/// Of a worker that ended in good order.
const EXIT_ORDERLY: i32 = 0;
/// Of a worker that has to be started again.
const EXIT_CHANGED: i32 = 1;
/// Of a worker whose app cannot be imported.
pub(crate) const EXIT_IMPORT: i32 = 3;
/// Of a worker that the machine does not let run.
const EXIT_SYSTEM: i32 = 4;

/// How long it tries to tell emperord of its end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// What workerd told the interpreter on its command line.
pub(crate) struct Arguments {
    worker: WorkerName,
    emperord: PathBuf,
    log_format: daemon::logging::Format,
    generation: u64,
}

impl Arguments {
    /// Parses what a worker is told.
    pub(crate) fn new(worker: &str, emperord: PathBuf, log_format: &str, generation: u64) -> PyResult<Self> {
        let worker = WorkerName::parse(worker).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let log_format = log_format.parse().map_err(PyValueError::new_err)?;
        Ok(Self { worker, emperord, log_format, generation })
    }
}

/// Runs a worker to its end; gives the exit code.
pub(crate) fn run(py: Python<'_>, arguments: &Arguments) -> PyResult<i32> {
    let _last_lines = daemon::logging::init(&arguments.worker.to_string(), arguments.log_format);
    set_title(&arguments.worker);
    let manager = service_manager(py)?;
    let errors = set_up(py)?;
    live(py, arguments, App::ToImport, &errors, &manager)
}

/// As `run`, in a process that was forked from where the app was imported.
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

/// What is the same for all that import an app. Starts no thread. Gives what `wsgi.errors` is.
pub(crate) fn set_up(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
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

/// Who started this process, where workers are units of systemd. No business of the app's.
fn service_manager(py: Python<'_>) -> PyResult<Manager> {
    let environ = py.import("os")?.getattr("environ")?;
    let socket: Option<OsString> =
        environ.call_method1("pop", ("IMPERIUM_NOTIFY_SOCKET", py.None()))?.extract()?;
    Ok(Manager::to(socket.as_deref()))
}

fn set_title(worker: &WorkerName) {
    process::set_title(&format!("imperium: {} [{}]", worker.vassal, worker.number), "workerd");
}

/// The app of a worker that starts.
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
    let (worker, spec, goodbye) = Worker::start(arguments)?;
    let spec = worker
        .driver
        .wait_outside(py, spec)
        .map_err(|_| PyRuntimeError::new_err("wait for the spec: no one asks"))?;
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
    match worker.prepare(py, &spec, app, errors) {
        Ok(wsgi) => {
            manager.tell(State::Ready);
            worker.serve(py, &wsgi, spec.threads)?;
        }
        Err(failed) => worker.fail(py, failed, goodbye, &spec),
    }
    worker.end(py, goodbye);
    if worker.exit_hooks.has_given_up() {
        // Python would wait for it, or run into it.
        process::exit_now(EXIT_ORDERLY);
    }
    sigterm::stop_handling(py)?;
    Ok(EXIT_ORDERLY)
}

/// What all threads of a worker share.
struct Worker {
    driver: Arc<Driver>,
    exchanges: Arc<Exchanges>,
    life: Arc<watch::Sender<Life>>,
    place: Arc<OnceLock<Place>>,
    /// A signal handler of the app asks for what SIGTERM would.
    end_asked: Arc<Notify>,
    exit_hooks: Arc<ExitHooks>,
    spec: Arc<LiveSpec>,
}

/// Resolved when emperord knows of this worker's end.
type Goodbye = oneshot::Receiver<()>;

impl Worker {
    /// Starts I/O: from here on emperord is attached to, and obeyed.
    fn start(arguments: &Arguments) -> PyResult<(Arc<Self>, oneshot::Receiver<Spec>, Goodbye)> {
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
        inside::is_worker(&arguments.worker, &worker.exchanges, &worker.driver);
        let (commands, obeyed) = mpsc::channel(8);
        let (waiting, spec) = oneshot::channel();
        let (told, goodbye) = oneshot::channel();

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
        // A channel can be made only where tasks run.
        let attach = async move {
            let channel = daemon::uds::channel(&socket, |it| it);
            Attachment::new(channel, &name, life, commands, exchanges, live_spec).run().await;
            let _ended = told.send(());
        };
        worker.driver.spawn(attach);
        Ok((worker, spec, goodbye))
    }
}
