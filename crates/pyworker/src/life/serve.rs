//! Serves requests: each thread calls the app for one request after another.

use std::sync::Arc;

use api::runner::serve_response::Message;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use super::Worker;
use super::watchdog::Watchdog;
use crate::link::batch::{Batch, Batched};
use crate::link::deadline::ThreadId;
use crate::link::exchange::Exchange;
use crate::link::exchanges::{Begun, Others};
use crate::python::faulthandler::{Dump, Threads};
use crate::python::interrupt::{self, Interrupter};
use crate::python::signals::{self, Handled, Signals};
use crate::python::{log, process};
use crate::wsgi::{self, Wsgi};

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
    Request(Begun),
    /// Run signal handlers.
    Signal,
    /// Exit, since this worker drains.
    Drained,
}

/// The last message of an exchange, which hasn't been sent.
type Last = (Arc<Exchange>, Message);

impl Worker {
    /// Serves until this worker is drained. The calling thread is one of those that call the app.
    pub(super) fn serve(self: &Arc<Self>, py: Python<'_>, wsgi: &Arc<Wsgi>, threads: u32) -> PyResult<()> {
        let others =
            (2..=threads).map(|number| self.start_thread(py, wsgi, number)).collect::<PyResult<Vec<_>>>()?;
        let signals = Signals::listen(py, &self.driver)?;
        self.watch_limits(py, threads)?;
        if threads <= 1
            && let Err(error) = process::schedule_as_batch(py)
        {
            tracing::debug!(%error, "scheduled like any thread: the kernel refuses SCHED_BATCH");
        }
        self.work(py, wsgi, &Thread::Main(signals));
        for thread in others {
            thread.call_method0("join")?;
        }
        // Wait for hooks of processes that exited just before the drain.
        self.driver.wait_outside(py, self.exit_hooks.settled());
        Ok(())
    }

    fn watch_limits(&self, py: Python<'_>, threads: u32) -> PyResult<()> {
        let dump = Arc::new(Dump::install(py, Threads::Asked)?);
        let watchdog = Watchdog {
            exchanges: Arc::clone(&self.exchanges),
            life: Arc::clone(&self.life),
            end_asked: Arc::clone(&self.end_asked),
            interrupter: Interrupter::install(py)?,
            dump: Arc::clone(&dump),
            threads: usize::try_from(threads.max(1)).unwrap_or(usize::MAX),
        };
        self.driver.spawn(watchdog.run());
        self.driver.spawn(Arc::clone(&self.exit_hooks).run(dump));
        Ok(())
    }

    /// Starts a Python thread. Apps can recognize it by its name.
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

    /// Calls the app for one request after another.
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

    /// Ends the previous exchange and starts the next.
    ///
    /// Sending from inside the runtime only pushes to a queue to wake the sending task. From anywhere else,
    /// it would take a system call.
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
        // Before waiting for the GIL, since that time counts.
        begun.exchange.deadline.run_by(this_thread);
        if !wsgi::is_safe(&begun.request().method) {
            begun.exchange.report_start();
            self.driver.flushed().await;
        }
        Next::Request(begun)
    }

    fn handle_signals(&self, py: Python<'_>) {
        if signals::handle(py) == Handled::End {
            self.end_asked.notify_one();
        }
    }
}
