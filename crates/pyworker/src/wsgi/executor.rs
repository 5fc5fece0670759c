//! The executor of WSGI apps: threads, each of which calls the app for one request after another.

use std::sync::Arc;

use api::runner::Welcome;
use api::runner::serve_response::Message;
use api::worker::{Interface, Spec};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use tokio::net::UnixListener;

use super::call::Wsgi;
use super::greenlets;
use super::interrupt::{self, Interrupter, ThreadTable};
use crate::executor::{Executor, Host, Runs};
use crate::link::active::ActiveRequest;
use crate::link::batch::{Batch, Batched};
use crate::link::peers::Peers;
use crate::link::requests::Others;
use crate::link::server;
use crate::link::token::CallToken;
use crate::python::faulthandler::Dump;
use crate::python::signals::{self, Handled, Signals};
use crate::python::{log, process};

/// A WSGI app, and the threads that call it.
pub(crate) struct Threads {
    wsgi: Wsgi,
    host: Host,
    /// How many threads call the app, at least 1.
    count: u32,
    running: Arc<ThreadTable>,
}

/// One of the threads.
enum Thread {
    /// The main thread, which runs Python's signal handlers.
    Main(Signals),
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

/// What a thread does next.
enum Next {
    Request(Arc<ActiveRequest>),
    /// Run signal handlers.
    Signal,
    /// Exit, since this worker drains.
    Drained,
}

/// The last message of a response, which hasn't been sent.
type Last = (Arc<ActiveRequest>, Message);

impl Threads {
    /// Starts a Python thread. Apps can recognize it by its name.
    fn start<'py>(self: &Arc<Self>, py: Python<'py>, number: u32) -> PyResult<Bound<'py, PyAny>> {
        let threads = Arc::clone(self);
        let target = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            threads.work(arguments.py(), &Thread::Other);
        })?;
        let options = PyDict::new(py);
        options.set_item("target", target)?;
        options.set_item("name", format!("imperium-{number}"))?;
        options.set_item("daemon", true)?;
        let thread = py.import("threading")?.call_method("Thread", (), Some(&options))?;
        thread.call_method0("start")?;
        Ok(thread)
    }

    /// Calls the app for one request after another.
    fn work(&self, py: Python<'_>, thread: &Thread) {
        let (mut last, mut batch) = (None, Batch::default());
        let (this_thread, this_call) = self.running.add_this();
        loop {
            let next = self.next(last.take(), &mut batch, thread, this_call);
            let (next, _inside) = self.host.driver.wait_to_enter(py, next);
            match next {
                Next::Request(active) => {
                    batch.begin();
                    let message = self.wsgi.serve(py, &active);
                    if active.deadline.leave() {
                        // No exception is raised in this thread for that request any more.
                        this_thread.forget(py);
                    }
                    log::settle();
                    last = Some((active, message));
                }
                Next::Signal => self.handle_signals(py),
                Next::Drained => return,
            }
        }
    }

    /// Ends the previous request and starts the next.
    ///
    /// Sending from inside the runtime only pushes to a queue to wake the sending task. From anywhere else,
    /// it would take a system call.
    async fn next(
        &self,
        last: Option<Last>,
        batch: &mut Batch,
        thread: &Thread,
        this_call: CallToken,
    ) -> Next {
        if let Some((active, message)) = last {
            let others = self.host.requests.end(&active).others;
            active.session.send(message);
            match others {
                Others::None => batch.rest(),
                Others::Wait if batch.answered() == Batched::Send => tokio::task::yield_now().await,
                Others::Wait => {}
            }
        }
        let active = tokio::select! {
            biased;
            active = self.host.requests.next() => active,
            () = thread.signal() => return Next::Signal,
        };
        let Some(active) = active else { return Next::Drained };
        // Before waiting for the GIL, since that time counts.
        active.deadline.enter(this_call);
        if !active.is_safe() {
            active.report_start();
            self.host.driver.flushed().await;
        }
        Next::Request(active)
    }

    fn handle_signals(&self, py: Python<'_>) {
        if signals::handle(py) == Handled::End {
            self.host.end_asked.notify_one();
        }
    }
}

impl Executor for Threads {
    type Interrupter = Interrupter;

    /// `errors` is `wsgi.errors`. Fails if the app has replaced the threads that it needs.
    fn new(app: Bound<'_, PyAny>, spec: &Spec, host: &Host, errors: &Bound<'_, PyAny>) -> PyResult<Self> {
        greenlets::check(app.py(), spec.threads)?;
        if spec.threads > 1 {
            host.driver.run_many_threads();
        }
        let wsgi = Wsgi::new(app, spec, host, errors)?;
        Ok(Self { wsgi, host: host.clone(), count: spec.threads.max(1), running: Arc::default() })
    }

    fn welcome(&self) -> Welcome {
        Welcome { capacity: self.count, streams_bodies: false, sockets: 0 }
    }

    fn runs(&self) -> Runs<'_> {
        Runs { interface: Interface::Wsgi, event_loop: "" }
    }

    fn accept(&self, listener: UnixListener, peers: Peers) -> impl Future<Output = ()> + Send + 'static {
        server::serve(listener, peers, Arc::clone(&self.host.requests), self.welcome())
    }

    fn call(&self, py: Python<'_>, active: &Arc<ActiveRequest>) -> Message {
        let _inside = self.host.driver.enter();
        self.wsgi.serve(py, active)
    }

    fn interrupter(&self, py: Python<'_>, dump: &Arc<Dump>) -> PyResult<Interrupter> {
        Interrupter::install(py, &self.running, dump)
    }

    /// The calling thread is one of those that call the app.
    fn run(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let others = (2..=self.count).map(|number| self.start(py, number)).collect::<PyResult<Vec<_>>>()?;
        let signals = Signals::listen(py, &self.host.driver)?;
        if self.count == 1
            && let Err(error) = process::schedule_as_batch(py)
        {
            tracing::debug!(%error, "scheduled like any thread: the kernel refuses SCHED_BATCH");
        }
        self.work(py, &Thread::Main(signals));
        for thread in others {
            thread.call_method0("join")?;
        }
        Ok(())
    }

    fn this_call(_py: Python<'_>) -> Option<CallToken> {
        Some(interrupt::this_call())
    }
}
