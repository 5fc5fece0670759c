//! The life of a worker, from the spec to the end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::WorkerName;
use api::runner::serve_response::Message;
use api::worker::failed::Reason;
use api::worker::{Failed, Ready, Spec};
use daemon::notify::{Notify as Manager, State};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::attach::{Attachment, End, Life};
use crate::batch::{Batch, Batched};
use crate::control::Control;
use crate::deadline::ThreadId;
use crate::driver::Driver;
use crate::ended::Ended;
use crate::exchange::Exchange;
use crate::exchanges::{Begun, Exchanges, Others};
use crate::faulthandler::{self, Dump, Threads};
use crate::forked;
use crate::ingress;
use crate::inside;
use crate::interrupt::{self, Interrupter};
use crate::peers::Peers;
use crate::signals::{self, Handled, Signals};
use crate::socket::Place;
use crate::startup::{Startup, Step};
use crate::watch::Watch;
use crate::wsgi::{self, Concurrency, Wsgi};
use crate::{health, import};
use crate::{log, process, sigterm, thread};

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
    py.import("os")?.getattr("environ")?.call_method1("pop", ("IMPERIUM_LOG", py.None()))?;
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
        Err(failed) => worker.fail(py, failed, goodbye),
    }
    worker.end(py, goodbye);
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
    /// Processes of other workers that have ended.
    ended: Arc<Ended>,
    /// How many run the app.
    workers: Arc<AtomicU32>,
}

/// Which of Python's threads.
enum Thread {
    /// The one that runs Python's signal handlers.
    Main(Signals),
    /// Any other.
    Other,
}

impl Thread {
    async fn signal(&self) {
        match self {
            Self::Main(signals) => signals.caught().await,
            Self::Other => std::future::pending().await,
        }
    }
}

/// What a thread has to do.
enum Next {
    /// Call the app.
    Request(Begun),
    /// Run the handlers of a signal, and what another worker's end calls for.
    Signal,
    /// End: this worker drains.
    Drained,
}

/// Resolved when emperord knows of this worker's end.
type Goodbye = oneshot::Receiver<()>;

/// The last message of an exchange, not sent yet.
type Last = (Arc<Exchange>, Message);

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
            ended: Arc::default(),
            workers: Arc::default(),
        });
        inside::is_worker(&arguments.worker, &worker.exchanges, &worker.driver);
        let (commands, obeyed) = mpsc::channel(8);
        let (waiting, spec) = oneshot::channel();
        let (told, goodbye) = oneshot::channel();

        let Self { exchanges, life, place, end_asked, ended, workers, .. } = &*worker;
        let control = Control::new(
            Arc::clone(exchanges),
            Arc::clone(life),
            Arc::clone(place),
            waiting,
            Arc::clone(ended),
            Arc::clone(workers),
        );
        worker.driver.spawn(control.run(obeyed, Arc::clone(end_asked)));

        let exchanges = Arc::clone(exchanges);
        let (name, life, socket) =
            (arguments.worker.to_string(), life.subscribe(), arguments.emperord.clone());
        // A channel can be made only where tasks run.
        let attach = async move {
            let channel = daemon::uds::channel(&socket, |it| it);
            Attachment::new(channel, &name, life, commands, exchanges).run().await;
            let _ended = told.send(());
        };
        worker.driver.spawn(attach);
        Ok((worker, spec, goodbye))
    }

    /// Imports the app, unless that was done, and listens.
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        app: App<'py>,
        errors: &Bound<'py, PyAny>,
    ) -> Result<Arc<Wsgi>, Failed> {
        let startup =
            Startup::watch(py, spec).map_err(|error| import::failed(py, &error, &spec.directory))?;
        let app = match app {
            App::Imported(app) => Ok(app),
            App::ToImport => self.import(py, spec, &startup),
        };
        // Forked or not, so that an app works with `preload` and without it.
        let app = app.and_then(|app| self.run_fork_hooks(py, &startup).map(|()| app));
        let app = app.and_then(|app| thread::check(py, spec.threads).map(|()| app));
        let app = app.map_err(|error| import::failed(py, &error, &spec.directory))?;
        let concurrency = Concurrency { threads: spec.threads, workers: Arc::clone(&self.workers) };
        let wsgi = Wsgi::new(app, &concurrency, errors, Arc::clone(&self.driver))
            .map(|it| it.with_sendfile(&spec.sendfile_folders));
        let wsgi = wsgi.map_err(|error| import::failed(py, &error, &spec.directory))?;
        if !spec.health.is_empty() {
            health::wait_until_well(py, &wsgi, &self.driver, spec, &self.life, &startup);
        }
        // Not dropped by a process that the app has forked: it ends in here.
        forked::end_if_forked();
        drop(startup);
        self.listen(py, spec).map_err(|error| Failed {
            reason: Reason::System.into(),
            message: with_causes(&error),
            traceback: String::new(),
        })?;
        let version = py.version_info();
        let python = format!("CPython {}.{}.{}", version.major, version.minor, version.patch);
        let ready = Ready { socket: spec.socket.clone(), capacity: spec.threads.max(1), python };
        tracing::info!(app = spec.app, python = ready.python, "serving");
        self.life.send_modify(|life| life.ready = Some(ready));
        Ok(Arc::new(wsgi))
    }

    fn import<'py>(&self, py: Python<'py>, spec: &Spec, startup: &Startup) -> PyResult<Bound<'py, PyAny>> {
        let (_inside, _step) = (self.driver.enter(), startup.step(Step::Import));
        import::import(py, spec)
    }

    fn run_fork_hooks(&self, py: Python<'_>, startup: &Startup) -> PyResult<()> {
        let (_inside, _step) = (self.driver.enter(), startup.step(Step::Hooks));
        inside::run_fork_hooks(py)
    }

    fn listen(&self, py: Python<'_>, spec: &Spec) -> Result<(), daemon::uds::ListenError> {
        let socket = Path::new(&spec.socket);
        let (listener, place) = self.driver.wait_outside(py, async { Place::bind(socket) })?;
        let _once = self.place.set(place);
        let (peers, exchanges) = (Peers::of(socket), Arc::clone(&self.exchanges));
        self.driver.spawn(ingress::serve(listener, peers, exchanges, spec.threads.max(1)));
        Ok(())
    }

    /// Serves until this worker is drained; this thread is one of those that call the app.
    fn serve(self: &Arc<Self>, py: Python<'_>, wsgi: &Arc<Wsgi>, threads: u32) -> PyResult<()> {
        let others =
            (2..=threads).map(|number| self.start_thread(py, wsgi, number)).collect::<PyResult<Vec<_>>>()?;
        let signals = Signals::listen(py, &self.driver, self.ended.main_thread())?;
        self.watch_limits(py, threads)?;
        if threads <= 1
            && let Err(error) = process::schedule_as_batch(py)
        {
            tracing::debug!(%error, "scheduled like any thread: the kernel refuses SCHED_BATCH");
        }
        self.work(py, wsgi, &Thread::Main(signals));
        // What came just before the drain.
        self.ended.run_hooks(py);
        for thread in others {
            thread.call_method0("join")?;
        }
        Ok(())
    }

    fn watch_limits(&self, py: Python<'_>, threads: u32) -> PyResult<()> {
        let watch = Watch {
            exchanges: Arc::clone(&self.exchanges),
            life: Arc::clone(&self.life),
            end_asked: Arc::clone(&self.end_asked),
            interrupter: Interrupter::install(py)?,
            dump: Dump::install(py, Threads::Asked)?,
            threads: usize::try_from(threads.max(1)).unwrap_or(usize::MAX),
        };
        self.driver.spawn(watch.run());
        Ok(())
    }

    /// Starts one of Python's own threads, which apps can tell from others by its name.
    fn start_thread<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        wsgi: &Arc<Wsgi>,
        number: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (worker, wsgi) = (Arc::clone(self), Arc::clone(wsgi));
        let target = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            worker.work(arguments.py(), &wsgi, &Thread::Other);
        })?;
        let options = PyDict::new(py);
        options.set_item("target", target)?;
        options.set_item("name", format!("imperium-{number}"))?;
        options.set_item("daemon", true)?;
        let thread = py.import("threading")?.call_method("Thread", (), Some(&options))?;
        thread.call_method0("start")?;
        Ok(thread)
    }

    /// Calls the app for one request after the other.
    fn work(&self, py: Python<'_>, wsgi: &Wsgi, thread: &Thread) {
        let (mut last, mut batch) = (None, Batch::default());
        let this_thread = interrupt::this_thread();
        loop {
            let next = self.next(last.take(), &mut batch, thread, this_thread);
            let (next, _inside) = self.driver.wait_to_enter(py, next);
            match next {
                Next::Request(begun) => {
                    batch.begin();
                    let message = wsgi.serve(py, &begun);
                    interrupt::leave(py, &begun.exchange);
                    log::settle();
                    last = Some((begun.exchange, message));
                }
                Next::Signal => self.handle_signals(py),
                Next::Drained => return,
            }
        }
    }

    /// Ends the exchange before, and begins the next.
    ///
    /// Sending from here, inside of the runtime, wakes who sends by a push to a queue; from anywhere else it
    /// would take a system call.
    async fn next(
        &self,
        last: Option<Last>,
        batch: &mut Batch,
        thread: &Thread,
        this_thread: ThreadId,
    ) -> Next {
        if let Some((exchange, message)) = last {
            let others = self.exchanges.end(&exchange);
            exchange.session.send(message);
            match others {
                Others::None => batch.rest(),
                Others::Wait if batch.answered() == Batched::Send => tokio::task::yield_now().await,
                Others::Wait => {}
            }
        }
        let begun = tokio::select! {
            biased;
            begun = self.exchanges.next() => begun,
            () = thread.signal() => return Next::Signal,
        };
        let Some(begun) = begun else { return Next::Drained };
        // Before the GIL is waited for, which counts.
        begun.exchange.deadline.run_by(this_thread);
        if !wsgi::is_safe(&begun.request().method) {
            begun.exchange.tell_begun();
            self.driver.flushed().await;
        }
        Next::Request(begun)
    }

    fn handle_signals(&self, py: Python<'_>) {
        if signals::handle(py) == Handled::End {
            self.end_asked.notify_one();
        }
        self.ended.run_hooks(py);
    }

    /// Tells emperord why the app cannot be run, and ends.
    fn fail(&self, py: Python<'_>, failed: Failed, goodbye: Goodbye) -> ! {
        let traceback = if failed.traceback.is_empty() { &failed.message } else { &failed.traceback };
        tracing::error!("the app cannot be run\n{traceback}");
        let code = if matches!(failed.reason(), Reason::Import | Reason::Source) {
            EXIT_IMPORT
        } else {
            EXIT_SYSTEM
        };
        self.say_goodbye(py, End::Failed(failed), goodbye);
        // In good order would mean to wait for threads that the app has started.
        process::exit_now(code)
    }

    /// The app is done with all. frontd may not have read all of it, and a client that reads slowly holds it up: the
    /// drain's own deadline ends that (`control`).
    fn end(&self, py: Python<'_>, goodbye: Goodbye) {
        self.driver.wait_outside(py, self.exchanges.deserted());
        self.say_goodbye(py, End::Drained, goodbye);
        if let Some(place) = self.place.get() {
            place.remove();
        }
        self.driver.stop(py);
        tracing::info!(requests = self.exchanges.work().ended, "drained");
    }

    fn say_goodbye(&self, py: Python<'_>, end: End, goodbye: Goodbye) {
        self.life.send_modify(|life| life.end = Some(end));
        let told = self.driver.wait_outside(py, async { timeout(GOODBYE_LIMIT, goodbye).await });
        let _emperord_is_away = told;
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
