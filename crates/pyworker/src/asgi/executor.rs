//! The executor of ASGI apps: one event loop, on the main thread.

use std::os::fd::AsRawFd as _;
use std::sync::{Arc, OnceLock};

use api::runner::serve_response::Message;
use api::runner::{Done, Welcome};
use api::worker::{Interface, Spec};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::before_import::{self, Prepared};
use super::blocked::Watch;
use super::event_loop::Loop;
use super::interrupt::Interrupter;
use super::scope::Scopes;
use super::support::Support;
use super::turn::{self, Target, Turns};
use crate::executor::failure::Failures;
use crate::executor::shutdown::Stage;
use crate::executor::{Executor, Host, Runs};
use crate::link::active::ActiveRequest;
use crate::link::peers::Peers;
use crate::link::server;
use crate::link::token::CallToken;
use crate::python::faulthandler::Dump;
use crate::python::import::StartupFailed;
use crate::python::signals::{self, Handled, Signals};
use crate::python::thread::ThreadId;
use crate::python::{process, traceback};

/// The number of requests at once, if the spec has none.
const DEFAULT_CONCURRENCY: u32 = 100;

/// How often the loop may end in a row without making a turn. After that, the worker ends.
const FAILURES: u32 = 10;

/// The context variable that identifies a call.
static TOKEN: OnceLock<Py<PyAny>> = OnceLock::new();

/// An ASGI app, and the event loop that runs it.
pub(crate) struct EventLoop {
    event_loop: Arc<Loop>,
    name: String,
    support: Support,
    lifespan: Py<PyAny>,
    turns: Arc<Turns>,
    host: Host,
    capacity: u32,
    /// Watches the loop once it runs.
    watch: Mutex<Option<Watch>>,
}

impl EventLoop {
    fn watch_signals(&self, py: Python<'_>) -> PyResult<()> {
        let signals = Signals::listen(py, &self.host.driver)?;
        let guest = Arc::clone(&self.event_loop.guest);
        self.host.driver.spawn(async move {
            loop {
                signals.caught().await;
                // Python runs its handlers when the loop runs Python code.
                guest.nudge();
            }
        });
        Ok(())
    }

    /// Runs the loop until this worker has drained.
    fn run_forever(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.event_loop.object(py);
        let (mut failures, mut seen) = (0, 0);
        while !self.turns.is_over() {
            match event_loop.call_method0("run_forever") {
                Ok(_) if self.turns.is_over() => break,
                Ok(_) => tracing::warn!(
                    "the app has stopped the event loop, which continues: it ends with the worker"
                ),
                Err(error) if event_loop.call_method0("is_closed")?.is_truthy()? => return Err(error),
                Err(error) if failures >= FAILURES => return Err(error),
                Err(error) => match signals::handled(py, &error) {
                    Handled::End => {
                        tracing::info!(%error, "the app has asked for the end of this worker");
                        self.host.end_asked.notify_one();
                    }
                    Handled::GoOn => {}
                },
            }
            let progress = self.event_loop.guest.progress();
            failures = if progress == seen { failures + 1 } else { 0 };
            seen = progress;
        }
        Ok(())
    }

    fn shut_down(&self, py: Python<'_>) {
        let stopped = self.lifespan.call_method0(py, "stop").and_then(|it| it.extract::<Option<String>>(py));
        let failure = stopped.unwrap_or_else(|error| Some(traceback::of(py, &error)));
        if let Some(failure) = failure {
            tracing::error!("the app's shutdown failed\n{}", failure.trim_end());
        }
        let finished = self.support.get(py, "finish").and_then(|it| it.call1((self.event_loop.object(py),)));
        match finished.and_then(|it| it.extract::<u32>()) {
            Ok(0) => {}
            Ok(tasks) => tracing::warn!(tasks, "tasks of the app ignore that they were cancelled"),
            Err(error) => tracing::warn!("the event loop was not closed\n{}", traceback::of(py, &error)),
        }
    }
}

/// Does what the worker's shutdown asks for.
async fn follow_shutdown(mut shutdown: watch::Receiver<Stage>, turns: Arc<Turns>) {
    let mut done = Stage::default();
    loop {
        let stage = *shutdown.borrow_and_update();
        if stage.closes_sockets && !done.closes_sockets {
            turns.close_sockets();
        }
        if stage.aborts_requests && !done.aborts_requests {
            turns.abort();
        }
        done = stage;
        if shutdown.changed().await.is_err() {
            return;
        }
    }
}

impl Executor for EventLoop {
    type Interrupter = Interrupter;

    fn new(app: Bound<'_, PyAny>, spec: &Spec, host: &Host, _errors: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = app.py();
        // The loop is the only thread of Python, but it never drives the runtime.
        host.driver.run_many_threads();
        let support = Support::load(py)?;
        let app = support.get(py, "single_callable")?.call1((app,))?;
        let created = match before_import::prepared() {
            Some(Prepared(prepared)) => {
                support.get(py, "loop_after_import")?.call1((&spec.r#loop, prepared))?
            }
            None => support.get(py, "new_loop")?.call1((&spec.r#loop,))?,
        };
        let (object, name): (Bound<'_, PyAny>, String) = created.extract()?;
        py.import("asyncio")?.call_method1("set_event_loop", (&object,))?;
        let lifespan = support.get(py, "Lifespan")?.call1((&app, &object))?;
        if let Some(why) = lifespan.call_method0("start")?.extract::<Option<String>>()? {
            return Err(StartupFailed::new_err(why));
        }
        let attributes = support.get(py, "attributes")?.call1((&object,))?;
        let event_loop = Loop::new(&object, attributes.cast::<PyDict>().ok())?;
        let state = match lifespan.getattr("is_supported")?.is_truthy()? {
            true => Some(lifespan.getattr("state")?.cast_into::<PyDict>()?),
            false => None,
        };
        let token = support.get(py, "token")?;
        TOKEN.get_or_init(|| token.clone().unbind());
        let capacity = if spec.concurrency == 0 { DEFAULT_CONCURRENCY } else { spec.concurrency };
        let target = Target {
            app,
            run: support.get(py, "run")?,
            token,
            scopes: Scopes::new(py, state, !spec.sendfile_folders.is_empty())?,
            failures: Failures::of(spec),
            sendfile: spec.sendfile_folders.iter().map(Into::into).collect(),
        };
        let turns = Turns::new(&event_loop, host, usize::try_from(capacity).unwrap_or(usize::MAX), target)?;
        let lifespan = lifespan.unbind();
        let descriptor = event_loop.guest.descriptor().as_raw_fd();
        object.call_method1("add_reader", (descriptor, turns.callback(py)?))?;
        Ok(Self {
            event_loop,
            name,
            support,
            lifespan,
            turns,
            host: host.clone(),
            capacity,
            watch: Mutex::new(None),
        })
    }

    fn welcome(&self) -> Welcome {
        Welcome { capacity: self.capacity, streams_bodies: true, sockets: self.capacity }
    }

    fn runs(&self) -> Runs<'_> {
        Runs { interface: Interface::Asgi, event_loop: &self.name }
    }

    fn accept(&self, listener: UnixListener, peers: Peers) -> impl Future<Output = ()> + Send + 'static {
        let guest = Arc::clone(&self.event_loop.guest);
        server::serve_by(guest, listener, peers, Arc::clone(&self.host.requests), self.welcome())
    }

    fn call(&self, py: Python<'_>, active: &Arc<ActiveRequest>) -> Message {
        let call = self.turns.start_later(py, Arc::clone(active));
        let event_loop = self.event_loop.object(py);
        if let Some(task) = call.task(py)
            && let Err(error) = event_loop.call_method1("run_until_complete", (task,))
        {
            tracing::error!("a request for the health path failed\n{}", traceback::of(py, &error));
        }
        if let Err(error) = self.turns.make(py) {
            tracing::error!(%error, "answer a request for the health path");
        }
        Message::Done(Done { id: active.id })
    }

    fn interrupter(&self, py: Python<'_>, dump: &Arc<Dump>) -> PyResult<Interrupter> {
        *self.watch.lock() = Some(Watch {
            guest: Arc::clone(&self.event_loop.guest),
            event_loop: Arc::clone(&self.event_loop),
            turns: Arc::clone(&self.turns),
            requests: Arc::clone(&self.host.requests),
            load: Arc::clone(&self.host.load),
            dump: Arc::clone(dump),
            thread: ThreadId::current(),
        });
        let stack = self.support.get(py, "stack")?;
        Interrupter::install(py, &self.event_loop, self.turns.calls(), stack, dump)
    }

    fn run(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.watch_signals(py)?;
        if let Err(error) = process::schedule_as_batch(py) {
            tracing::debug!(%error, "scheduled like any thread: the kernel refuses SCHED_BATCH");
        }
        if let Some(watch) = self.watch.lock().take() {
            // Its turns may be long, and are made in one go.
            self.host.driver.spawn(tokio::task::unconstrained(watch.run()));
        }
        let (requests, turns) = (Arc::clone(&self.host.requests), Arc::clone(&self.turns));
        self.host.driver.spawn(follow_shutdown(self.host.shutdown.subscribe(), Arc::clone(&turns)));
        self.host.driver.spawn(async move {
            requests.draining().await;
            requests.all_half_closed().await;
            turns.end();
        });
        self.run_forever(py)?;
        let descriptor = self.event_loop.guest.descriptor().as_raw_fd();
        self.event_loop.object(py).call_method1("remove_reader", (descriptor,))?;
        self.shut_down(py);
        Ok(())
    }

    fn this_call(py: Python<'_>) -> Option<CallToken> {
        turn::current(TOKEN.get()?.bind(py))
    }
}
