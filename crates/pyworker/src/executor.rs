//! What calls the app: the contract between the life of a worker, which starts, watches and ends an executor, and the
//! application interfaces, such as WSGI, which implement it.

pub(crate) mod failure;
pub(crate) mod head;
pub(crate) mod live_spec;
pub(crate) mod load;
pub(crate) mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use api::runner::Welcome;
use api::runner::serve_response::Message;
use api::worker::{Interface, Spec};
use pyo3::prelude::*;
use tokio::net::UnixListener;
use tokio::sync::Notify;

use self::live_spec::LiveSpec;
use self::load::LoopLoad;
use self::shutdown::Shutdown;
use crate::link::active::ActiveRequest;
use crate::link::peers::Peers;
use crate::link::requests::Requests;
use crate::link::token::CallToken;
use crate::python::driver::Driver;
use crate::python::faulthandler::Dump;

/// What an executor needs of its worker.
#[derive(Clone)]
pub(crate) struct Host {
    /// Drives the I/O.
    pub(crate) driver: Arc<Driver>,
    /// Where requests come from.
    pub(crate) requests: Arc<Requests>,
    /// The parts of the spec that can change.
    pub(crate) spec: Arc<LiveSpec>,
    /// The load of its event loop, if it has one.
    pub(crate) load: Arc<LoopLoad>,
    /// The shutdown of this worker, and the WebSockets that delay it.
    pub(crate) shutdown: Arc<Shutdown>,
    /// Ends this worker, as SIGTERM does.
    pub(crate) end_asked: Arc<Notify>,
}

/// Calls the app for requests.
///
/// Each application interface has its own. The life of a worker is generic over it, so that no request costs a
/// dynamic call.
///
/// ```text
///   imported ──▶ call: the health path, one request at a time ──▶ run: takes requests until there is none ──▶ ended
/// ```
pub(crate) trait Executor: Sized + Send + Sync + 'static {
    /// What interrupts its calls.
    type Interrupter: Interrupt;

    /// Prepares to call `app` as `spec` says. Runs what the app does before it serves. `errors` is `sys.stderr`. Called on
    /// the main thread.
    ///
    /// # Errors
    /// If the app can't run, or fails to start.
    fn new(app: Bound<'_, PyAny>, spec: &Spec, host: &Host, errors: &Bound<'_, PyAny>) -> PyResult<Self>;

    /// What frontd has to know of it. The capacity is how many requests it takes at once, at least 1. That isn't the
    /// number of its threads: an event loop takes many requests on one.
    fn welcome(&self) -> Welcome;

    /// What it is, for the operator.
    fn runs(&self) -> Runs<'_>;

    /// Serves the connections of frontd until the process exits. Run on the I/O runtime.
    fn accept(&self, listener: UnixListener, peers: Peers) -> impl Future<Output = ()> + Send + 'static;

    /// Calls the app for a request that this worker makes itself, before it serves others. Called on the main thread.
    /// Returns the last message of the response, which the caller sends.
    fn call(&self, py: Python<'_>, active: &Arc<ActiveRequest>) -> Message;

    /// Installs what interrupts calls that exceed a limit. Called on the main thread, before `run`. `dump` writes the
    /// stacks of threads.
    ///
    /// # Errors
    /// If Python refuses to handle a signal.
    fn interrupter(&self, py: Python<'_>, dump: &Arc<Dump>) -> PyResult<Self::Interrupter>;

    /// Takes requests from [`Requests::next`] and calls the app for each, until that returns `None`, as it does when
    /// this worker drains. Returns after the last call has returned. Called on the main thread, where it also runs
    /// Python's signal handlers.
    ///
    /// Each request is told its call ([`crate::link::deadline::Deadline::enter`]), and when that has returned.
    ///
    /// # Errors
    /// If it can't start.
    fn run(self: &Arc<Self>, py: Python<'_>) -> PyResult<()>;

    /// The call that the calling code belongs to. It need not be that of a request.
    fn this_call(py: Python<'_>) -> Option<CallToken>;
}

/// How an app is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runs<'a> {
    pub(crate) interface: Interface,
    /// The name of the event loop, or empty if there is none.
    pub(crate) event_loop: &'a str,
}

/// Interrupts calls of the app. Used on the I/O runtime, so it never waits for Python.
pub(crate) trait Interrupt: Send + Sync + 'static {
    /// Logs the stack of the call of `active`, and raises an exception in it, as soon as the GIL is available. Then
    /// cancels the request, which ends all waits for its client.
    fn interrupt(&self, active: Arc<ActiveRequest>, age: Duration);

    /// The stack of a call, or why it can't be read. It doesn't need the GIL.
    fn stack(&self, call: CallToken) -> impl Future<Output = String> + Send;
}
