//! Logs where the app hangs, shortly before its process is killed for exceeding its start limit.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use api::worker::Spec;
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::python::faulthandler::{self, Dump, HANDLED_WITHIN, Stacks};
use crate::python::process;
use crate::python::thread::ThreadId;

/// The name of the watching thread.
pub(crate) const WATCH: &str = "startup-watch";
/// How long before the kill the stacks are logged, at most a quarter of the limit.
const MARGIN: Duration = Duration::from_secs(2);

/// Watches the start of this process until it is dropped.
///
/// It has its own thread, which doesn't need the GIL, since C code may hold it. The thread has exited before
/// a template forks.
pub(crate) struct StartLimit {
    step: Arc<Mutex<Option<Step>>>,
    watch: Option<WatchThread>,
}

struct WatchThread {
    process: u32,
    _end: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// What the app is doing while it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is being imported.
    Import,
    /// Its `imperium.on_fork` hooks are running.
    Hooks,
    /// It is starting its event loop, and the app.
    Startup,
    /// It is handling a request for its health path.
    Health,
}

/// A step is in progress until this is dropped.
pub(crate) struct InProgress<'a>(&'a StartLimit);

impl StartLimit {
    /// Watches the start of an app that has `start_milliseconds` for it. Call this on the main thread.
    pub(crate) fn watch(py: Python<'_>, spec: &Spec) -> PyResult<Self> {
        let limit = Duration::from_millis(spec.start_milliseconds.into());
        let step = Arc::new(Mutex::new(None));
        if limit.is_zero() {
            return Ok(Self { step, watch: None });
        }
        let dump = Dump::install(py, Stacks::All)?;
        let (end, ended) = mpsc::channel();
        let crash_file = spec.development.then(|| faulthandler::crash_file(spec.socket.as_ref()));
        let watching =
            Watching { limit, step: Arc::clone(&step), main: ThreadId::current(), dump, crash_file };
        let thread = thread::Builder::new().name(WATCH.to_owned()).spawn(move || watching.run(&ended))?;
        Ok(Self { step, watch: Some(WatchThread { process: std::process::id(), _end: end, thread }) })
    }

    /// Sets the current step.
    pub(crate) fn step(&self, step: Step) -> InProgress<'_> {
        *self.step.lock() = Some(step);
        InProgress(self)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        *self.0.step.lock() = None;
    }
}

impl Drop for StartLimit {
    fn drop(&mut self) {
        let Some(WatchThread { process, _end, thread }) = self.watch.take() else { return };
        drop(_end);
        // In a process that the app forked, this thread doesn't exist.
        if process == std::process::id() {
            let _panicked = thread.join();
        }
    }
}

/// Adds to a file, if it exists.
fn add(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())
}

struct Watching {
    limit: Duration,
    step: Arc<Mutex<Option<Step>>>,
    main: ThreadId,
    dump: Dump,
    /// Where emperord finds what to tell the developer.
    crash_file: Option<PathBuf>,
}

impl Watching {
    fn run(self, ended: &mpsc::Receiver<()>) {
        let wait = self.limit - MARGIN.min(self.limit / 4);
        let left = wait.saturating_sub(process::age());
        if ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let Some(step) = *self.step.lock() else { return };
        let asked = self.dump.ask(self.main);
        let _ended_meanwhile = ended.recv_timeout(HANDLED_WITHIN);
        let stacks = self.dump.answer(&asked);
        let what = match step {
            Step::Import => "importing the app",
            Step::Startup => "in the app's startup (lifespan)",
            Step::Hooks => "in a function given to `imperium.on_fork`",
            Step::Health => "answering its health path",
        };
        let text = format!("The start takes too long: it was still {what}\n\n{stacks}\n");
        let is_left = self.crash_file.as_ref().is_some_and(|it| add(it, &text).is_ok());
        if !is_left {
            tracing::error!(
                age = ?process::age(),
                limit = ?self.limit,
                "the start is about to exceed `timeouts.start`, and will be stopped: it is still {what}\n{stacks}"
            );
        }
    }
}
