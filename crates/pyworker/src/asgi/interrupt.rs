//! Interrupts calls of the app that are tasks of an event loop: cancels the task, or, if the task itself blocks the
//! loop, raises `imperium.RequestTimeout` in it.
//!
//! Both need the GIL, which C code may hold for any time, so a thread of its own does that. It exists while there are
//! requests to interrupt: all requests of a loop may exceed their limits at once.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use super::event_loop::{Loop, Running};
use super::turn::Calls;
use crate::executor::Interrupt;
use crate::link::active::ActiveRequest;
use crate::link::token::CallToken;
use crate::python::faulthandler::Dump;
use crate::python::interrupt;
use crate::python::thread::ThreadId;

/// How many stacks are logged of requests that exceed their limits at once.
const STACKS: usize = 10;

/// Interrupts tasks.
pub(crate) struct Interrupter {
    tasks: Arc<Tasks>,
    dump: Arc<Dump>,
}

struct Tasks {
    event_loop: Arc<Loop>,
    calls: Arc<Calls>,
    /// Formats the stack of a task.
    stack: Py<PyAny>,
    /// The thread of the loop.
    thread: ThreadId,
    /// The call that the last signal to that thread was sent for.
    signalled: Mutex<Option<Weak<dyn Running>>>,
    /// The number of that signal.
    signal: i32,
    queue: Mutex<Queue>,
}

/// Requests to interrupt, and how long they have made no progress.
#[derive(Default)]
struct Queue {
    overdue: Vec<(Arc<ActiveRequest>, Duration)>,
    /// A thread interrupts them.
    is_served: bool,
}

impl Interrupter {
    /// Installs the handler of the signal that interrupts a task which blocks the loop. Call this on the main thread,
    /// which runs the loop. `stack` formats the stack of a task.
    pub(super) fn install(
        py: Python<'_>,
        event_loop: &Arc<Loop>,
        calls: &Arc<Calls>,
        stack: Bound<'_, PyAny>,
        dump: &Arc<Dump>,
    ) -> PyResult<Self> {
        let module = py.import("_signal")?;
        let signal: i32 = module.getattr("SIGRTMAX")?.extract::<i32>()? - 1;
        let tasks = Arc::new(Tasks {
            event_loop: Arc::clone(event_loop),
            calls: Arc::clone(calls),
            stack: stack.unbind(),
            thread: ThreadId::current(),
            signalled: Mutex::default(),
            signal,
            queue: Mutex::default(),
        });
        let handling = Arc::clone(&tasks);
        let handler = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            handling.handle_signal(arguments.py())
        })?;
        module.call_method1("signal", (signal, handler))?;
        Ok(Self { tasks, dump: Arc::clone(dump) })
    }
}

impl Interrupt for Interrupter {
    fn interrupt(&self, active: Arc<ActiveRequest>, age: Duration) {
        let is_served = {
            let mut queue = self.tasks.queue.lock();
            queue.overdue.push((active, age));
            std::mem::replace(&mut queue.is_served, true)
        };
        if is_served {
            return;
        }
        let tasks = Arc::clone(&self.tasks);
        if let Err(error) =
            thread::Builder::new().name("watchdog".to_owned()).spawn(move || tasks.serve_queue())
        {
            // The next request that takes too long tries again.
            self.tasks.queue.lock().is_served = false;
            tracing::error!(%error, "start a thread to interrupt a request that takes too long");
        }
    }

    async fn stack(&self, _call: CallToken) -> String {
        self.dump.of(self.tasks.thread).await
    }
}

impl Tasks {
    fn serve_queue(self: Arc<Self>) {
        loop {
            let overdue = {
                let mut queue = self.queue.lock();
                queue.is_served = !queue.overdue.is_empty();
                std::mem::take(&mut queue.overdue)
            };
            if overdue.is_empty() {
                return;
            }
            for (number, (active, age)) in overdue.into_iter().enumerate() {
                let _python_has_ended = Python::try_attach(|py| {
                    interrupt::log(&active, age, || match number {
                        0..STACKS => self.stack(py, &active),
                        _ => "its stack is not logged, since many requests exceed their limits".to_owned(),
                    });
                    if let Err(error) = self.interrupt(py, &active) {
                        tracing::error!(%error, "cancel the task of a request that takes too long");
                    }
                });
                // End all waits for the client inside the app.
                active.cancel();
            }
        }
    }

    fn find(&self, active: &ActiveRequest) -> Option<Arc<dyn Running>> {
        let calls = self.calls.lock();
        calls.values().find(|it| std::ptr::eq(&**it.active(), active)).cloned()
    }

    fn stack(&self, py: Python<'_>, active: &ActiveRequest) -> String {
        let Some(task) = self.find(active).and_then(|it| it.task(py)) else {
            return "it has not reached the app".to_owned();
        };
        let stack = self.stack.bind(py).call1((task, self.event_loop.object(py)));
        let stack = stack.and_then(|it| it.extract::<Option<String>>());
        match stack {
            Ok(Some(stack)) => Ok(stack),
            // It runs.
            Ok(None) => self.thread.stack(py),
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| format!("its stack cannot be read: {error}"))
    }

    /// The GIL is held, so the loop can't start another task meanwhile.
    fn interrupt(self: &Arc<Self>, py: Python<'_>, active: &Arc<ActiveRequest>) -> PyResult<()> {
        let Some(call) = self.find(active) else { return Ok(()) };
        let Some(task) = call.task(py) else { return Ok(()) };
        let event_loop = self.event_loop.object(py);
        let current = py.import("asyncio")?.call_method1("current_task", (event_loop,))?;
        if current.is(&task) {
            active.deadline.reach();
            *self.signalled.lock() = Some(Arc::downgrade(&call));
            self.thread.signal(self.signal);
            return Ok(());
        }
        let active = Arc::clone(active);
        let cancel = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            active.deadline.reach();
            if active.deadline.is_to_be_raised() {
                cancel(&*call, &active, arguments.py())?;
            }
            PyResult::Ok(())
        })?;
        event_loop.call_method1("call_soon_threadsafe", (cancel,)).map(drop)
    }

    /// Runs on the thread of the loop at some time after the signal. The task may have been suspended meanwhile.
    fn handle_signal(&self, py: Python<'_>) -> PyResult<()> {
        let Some(call) = self.signalled.lock().take().and_then(|it| it.upgrade()) else { return Ok(()) };
        let active = call.active();
        if !active.deadline.is_to_be_raised() {
            return Ok(());
        }
        let Some(task) = call.task(py) else { return Ok(()) };
        let event_loop = self.event_loop.object(py);
        let current = py.import("asyncio")?.call_method1("current_task", (event_loop,))?;
        if current.is(&task) { Err(interrupt::error(active)) } else { cancel(&*call, active, py) }
    }
}

fn cancel(call: &dyn Running, active: &ActiveRequest, py: Python<'_>) -> PyResult<()> {
    let Some(task) = call.task(py) else { return Ok(()) };
    let reason = interrupt::error(active).value(py).to_string();
    task.call_method1("cancel", (reason,)).map(drop)
}
