//! Starts a worker: sets its process up, and connects it to emperord.

use std::ffi::OsString;
use std::sync::Arc;

use api::worker::Spec;
use daemon::notify::Notify as Manager;
use pyo3::prelude::*;
use tokio::sync::{mpsc, oneshot, watch};

use super::attach::Attachment;
use super::control::Control;
use super::state::WorkerState;
use super::{Arguments, Worker, allocator};
use crate::executor::Host;
use crate::python::driver::Driver;
use crate::python::{faulthandler, imperium, log, process, sigterm};

/// The setup shared by all processes that import an app. Starts no thread. Returns `wsgi.errors`.
pub(super) fn set_up(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
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
pub(super) fn service_manager(py: Python<'_>) -> PyResult<Manager> {
    let environ = py.import("os")?.getattr("environ")?;
    let socket: Option<OsString> =
        environ.call_method1("pop", ("IMPERIUM_NOTIFY_SOCKET", py.None()))?.extract()?;
    Ok(Manager::to(socket.as_deref()))
}

/// Resolves once emperord knows that this worker exits.
pub(super) type EndReported = oneshot::Receiver<()>;

impl Worker {
    /// Starts I/O: from now on, the worker is attached to emperord and follows its commands.
    pub(super) fn start(arguments: &Arguments) -> PyResult<(Self, oneshot::Receiver<Spec>, EndReported)> {
        let state = WorkerState { generation: arguments.generation, ..WorkerState::default() };
        let host = Host {
            driver: Driver::start()?,
            requests: Arc::default(),
            spec: Arc::default(),
            load: Arc::default(),
            shutdown: Arc::default(),
            end_asked: Arc::default(),
        };
        let worker = Self {
            host: host.clone(),
            state: Arc::new(watch::Sender::new(state)),
            socket: Arc::default(),
            exit_hooks: Arc::default(),
        };
        imperium::set_worker(&arguments.worker, &host.requests, &host.driver);
        let (commands, obeyed) = mpsc::channel(8);
        let (waiting, spec) = oneshot::channel();
        let (reported, end_reported) = oneshot::channel();

        let Self { state, socket, exit_hooks, .. } = &worker;
        let control = Control::new(
            host.clone(),
            Arc::clone(state),
            Arc::clone(socket),
            waiting,
            Arc::clone(exit_hooks),
        );
        host.driver.spawn(control.run(obeyed));

        let driver = Arc::clone(&host.driver);
        let (name, state, socket) =
            (arguments.worker.to_string(), state.subscribe(), arguments.emperord.clone());
        // A channel can be created only inside the runtime.
        let attach = async move {
            let channel = daemon::uds::channel(&socket, |it| it);
            let attachment = Attachment::new(channel, &name, state, commands, host);
            attachment.run().await;
            let _ended = reported.send(());
        };
        driver.spawn(attach);
        Ok((worker, spec, end_reported))
    }
}
