//! Calls the app's `imperium.on_worker_exit` hooks for each process of another worker that has exited.
//!
//! They run on a separate thread, which exists only while there is something to do: no request waits for a
//! hook, and hooks don't wait until the app is idle.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::python::faulthandler::Dump;
use crate::python::thread::ThreadId;
use crate::python::{forked, traceback};

/// Time limit of one hook for one process.
const LIMIT: Duration = Duration::from_secs(5);
/// How often a running hook is checked, and thus how late an exceeded limit may be noticed.
const TICK: Duration = Duration::from_millis(500);
/// The largest number of exited processes that wait for the hooks.
const WAITING_LIMIT: usize = 1000;

static HOOKS: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());

/// Exited processes, and the current call of a hook.
///
/// ```text
///   add ──▶ waiting ──▶ running ──returned, raised──▶ the next hook, the next process
///                          └─ limit over: logged, TimeoutError raised ─ limit over again: given up
/// ```
#[derive(Debug, Default)]
pub(crate) struct ExitHooks {
    state: Mutex<State>,
    added: Notify,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Processes for which the hooks haven't been called.
    waiting: VecDeque<u32>,
    activity: Activity,
    calls: u64,
}

/// The state of the hooks' thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Activity {
    /// The thread isn't running.
    #[default]
    Idle,
    /// It is between two hooks.
    Between,
    /// It is running a hook.
    Running(HookCall),
    /// It is running a hook that didn't even end when an exception was raised in it.
    GivenUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HookCall {
    number: u64,
    pid: u32,
    thread: ThreadId,
    began: Instant,
}

impl ExitHooks {
    /// A process has exited.
    pub(crate) fn add(&self, pid: u32) {
        let mut state = self.state.lock();
        state.waiting.push_back(pid);
        let dropped = if state.waiting.len() > WAITING_LIMIT { state.waiting.pop_front() } else { None };
        drop(state);
        if let Some(pid) = dropped {
            tracing::warn!(
                pid,
                "`imperium.on_worker_exit`: too many processes have exited; the hooks are not called for one"
            );
        }
        self.added.notify_one();
    }

    /// Has the hooks called, and enforces their time limit, until this process exits.
    pub(crate) async fn run(self: Arc<Self>, dump: Arc<Dump>) {
        loop {
            if !self.has_work() {
                self.settled.notify_waiters();
                self.added.notified().await;
                continue;
            }
            self.state.lock().activity = Activity::Between;
            let (running, mut over) = oneshot::channel::<()>();
            let hooks = Arc::clone(&self);
            let call_all = move || {
                let _until_it_ends = running;
                let _python_has_ended = Python::try_attach(|py| hooks.call_all(py));
            };
            if let Err(error) = thread::Builder::new().name("exit-hooks".to_owned()).spawn(call_all) {
                tracing::error!(
                    %error,
                    "start a thread for `imperium.on_worker_exit`: hooks are not called for exited processes"
                );
                self.state.lock().waiting.clear();
            }
            self.watch(&mut over, &dump).await;
            self.state.lock().activity = Activity::Idle;
        }
    }

    /// Waits until all hooks have been called, or one of them is given up.
    pub(crate) async fn settled(&self) {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// Whether a hook was given up, and is still running.
    pub(crate) fn has_given_up(&self) -> bool {
        self.state.lock().activity == Activity::GivenUp
    }

    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        match state.activity {
            Activity::Idle => state.waiting.is_empty() || HOOKS.lock().is_empty(),
            Activity::Between | Activity::Running(_) => false,
            Activity::GivenUp => true,
        }
    }

    /// Whether there is something to call. Without hooks, the processes are dropped.
    fn has_work(&self) -> bool {
        let mut state = self.state.lock();
        if HOOKS.lock().is_empty() {
            state.waiting.clear();
        }
        !state.waiting.is_empty()
    }

    /// Enforces the time limit of each call until the thread has exited.
    async fn watch(self: &Arc<Self>, over: &mut oneshot::Receiver<()>, dump: &Dump) {
        let mut interrupted = None;
        while timeout(TICK, &mut *over).await.is_err() {
            let Activity::Running(call) = self.state.lock().activity else { continue };
            let age = call.began.elapsed();
            if interrupted != Some(call.number) && age >= LIMIT {
                interrupted = Some(call.number);
                self.interrupt(call, dump).await;
            } else if interrupted == Some(call.number) && age >= LIMIT * 2 {
                self.give_up(call);
            }
        }
    }

    /// Raises an exception in a hook. This needs the GIL, and therefore a thread.
    async fn interrupt(self: &Arc<Self>, call: HookCall, dump: &Dump) {
        let stack = dump.of(call.thread).await;
        tracing::error!(
            pid = call.pid,
            "a function given to `imperium.on_worker_exit` has not returned for {LIMIT:?}: it is interrupted\n{stack}"
        );
        let hooks = Arc::clone(self);
        let raise = move || {
            let _python_has_ended = Python::try_attach(|py| {
                let is_running = hooks.state.lock().activity == Activity::Running(call);
                if is_running {
                    call.thread.raise(&py.get_type::<PyTimeoutError>());
                }
            });
        };
        if let Err(error) = thread::Builder::new().name("exit-hooks".to_owned()).spawn(raise) {
            tracing::error!(%error, "start a thread to interrupt a hook of `imperium.on_worker_exit`");
        }
    }

    fn give_up(&self, call: HookCall) {
        let mut state = self.state.lock();
        if state.activity != Activity::Running(call) {
            return;
        }
        state.activity = Activity::GivenUp;
        drop(state);
        tracing::error!(
            pid = call.pid,
            "a function given to `imperium.on_worker_exit` cannot be ended: no other is called until it returns"
        );
        self.settled.notify_waiters();
    }

    fn call_all(&self, py: Python<'_>) {
        while let Some(pid) = self.next() {
            // A hook may register others, which are called from the next process on.
            let hooks: Vec<_> = HOOKS.lock().iter().map(|hook| hook.clone_ref(py)).collect();
            for hook in hooks {
                self.call(py, &hook, pid);
            }
        }
    }

    fn next(&self) -> Option<u32> {
        self.state.lock().waiting.pop_front()
    }

    fn call(&self, py: Python<'_>, hook: &Py<PyAny>, pid: u32) {
        let thread = ThreadId::current();
        self.begin(pid, thread);
        let called = hook.call1(py, (pid,));
        // The GIL is held, so nothing is raised between these two statements.
        self.state.lock().activity = Activity::Between;
        thread.forget(py);
        if let Err(error) = &called {
            forked::end_if_forked_by(py, error);
        }
        forked::end_if_forked();
        if let Err(error) = called {
            let traceback = traceback::of(py, &error);
            tracing::error!(
                pid,
                "a function given to `imperium.on_worker_exit` raised an exception\n{traceback}"
            );
        }
    }

    fn begin(&self, pid: u32, thread: ThreadId) {
        let mut state = self.state.lock();
        state.calls += 1;
        let call = HookCall { number: state.calls, pid, thread, began: Instant::now() };
        state.activity = Activity::Running(call);
    }
}

#[pyfunction]
pub(crate) fn on_worker_exit(hook: Py<PyAny>) {
    HOOKS.lock().push(hook);
}
