//! Prepares a worker: imports the app, checks its health, and listens on the socket.

use std::path::Path;
use std::sync::Arc;

use api::worker::failed::Reason;
use api::worker::{Failed, Ready, Spec};
use pyo3::prelude::*;

use super::health;
use super::start_limit::{StartLimit, Step};
use super::{App, Worker};
use crate::executor::Executor;
use crate::link::peers::Peers;
use crate::link::server;
use crate::link::socket::SocketFile;
use crate::python::faulthandler::CrashFile;
use crate::python::{forked, imperium, import};
use crate::wsgi::Threads;

impl Worker {
    /// Imports the app, unless the template already has, and listens. Returns what calls the app.
    pub(super) fn prepare<'py>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        app: App<'py>,
        errors: &Bound<'py, PyAny>,
    ) -> Result<Arc<Threads>, Failed> {
        // An app that was imported already may have given faulthandler a file of its own.
        let is_to_import = matches!(app, App::ToImport);
        let _until_it_is_ready = is_to_import.then(|| crash_file(py, spec)).flatten();
        let failed = |error: PyErr| import::failed(py, &error, spec);
        let start_limit = StartLimit::watch(py, spec).map_err(failed)?;
        let app = self.load(py, spec, app, &start_limit).map_err(failed)?;
        // WSGI is the only application interface so far.
        let executor = Threads::new(app, spec, &self.host, errors).map_err(failed)?;
        self.become_ready(py, spec, &executor, start_limit)?;
        Ok(Arc::new(executor))
    }

    fn load<'py>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        app: App<'py>,
        start_limit: &StartLimit,
    ) -> PyResult<Bound<'py, PyAny>> {
        let app = match app {
            App::Imported(app) => app,
            App::ToImport => {
                let (_inside, _step) = (self.host.driver.enter(), start_limit.step(Step::Import));
                import::import(py, spec)?
            }
        };
        // Also in workers that weren't forked, so that an app behaves the same with and without `preload`.
        let (_inside, _step) = (self.host.driver.enter(), start_limit.step(Step::Hooks));
        imperium::run_fork_hooks(py)?;
        Ok(app)
    }

    fn become_ready(
        &self,
        py: Python<'_>,
        spec: &Spec,
        executor: &impl Executor,
        start_limit: StartLimit,
    ) -> Result<(), Failed> {
        if !spec.health.is_empty() {
            health::wait_until_healthy(py, executor, &self.host.driver, spec, &self.state, &start_limit);
        }
        // A process that the app has forked must not drop this. It exits here.
        forked::end_if_forked();
        drop(start_limit);
        let capacity = executor.capacity();
        self.listen(py, spec, capacity).map_err(|error| Failed {
            reason: Reason::System.into(),
            message: with_causes(&error),
            traceback: String::new(),
        })?;
        let version = py.version_info();
        let python = format!("CPython {}.{}.{}", version.major, version.minor, version.patch);
        let ready = Ready { socket: spec.socket.clone(), capacity, python, ..Ready::default() };
        tracing::info!(app = spec.app, python = ready.python, "serving");
        self.state.send_modify(|state| state.ready = Some(ready));
        Ok(())
    }

    fn listen(&self, py: Python<'_>, spec: &Spec, capacity: u32) -> Result<(), daemon::uds::ListenError> {
        let path = Path::new(&spec.socket);
        let (listener, socket) = self.host.driver.wait_outside(py, async { SocketFile::bind(path) })?;
        let _once = self.socket.set(socket);
        let (peers, requests) = (Peers::of(path), Arc::clone(&self.host.requests));
        self.host.driver.spawn(server::serve(listener, peers, requests, capacity));
        Ok(())
    }
}

/// In development, emperord shows the stack of a crash to the developer: once, however often the start is tried.
fn crash_file(py: Python<'_>, spec: &Spec) -> Option<CrashFile> {
    let opened = spec.development.then(|| CrashFile::open(py, spec.socket.as_ref()))?;
    opened.inspect_err(|error| tracing::debug!(%error, "the stack of a crash goes to the log")).ok()?
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
