//! Prepares a worker: imports the app, checks its health, and listens on the socket.

use std::path::Path;
use std::sync::Arc;

use api::worker::failed::Reason;
use api::worker::{Failed, Interface, Ready, Spec};
use pyo3::prelude::*;

use super::health;
use super::start_limit::{StartLimit, Step};
use super::{App, Worker};
use crate::asgi;
use crate::executor::{Executor, Runs};
use crate::link::peers::Peers;
use crate::link::socket::SocketFile;
use crate::python::faulthandler::CrashFile;
use crate::python::{forked, imperium, import};

/// An app that was imported.
pub(super) struct Loaded<'py> {
    app: Bound<'py, PyAny>,
    /// How it is called.
    pub(super) interface: Interface,
    start_limit: StartLimit,
    _until_it_is_ready: Option<CrashFile>,
}

impl Worker {
    /// Imports the app, unless the template already has, and watches how long the start takes.
    pub(super) fn load<'py>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        app: App<'py>,
    ) -> Result<Loaded<'py>, Failed> {
        // An app that was imported already may have given faulthandler a file of its own.
        let is_to_import = matches!(app, App::ToImport);
        let crash_file = is_to_import.then(|| crash_file(py, spec)).flatten();
        let failed = |error: PyErr| import::failed(py, &error, spec);
        let start_limit = StartLimit::watch(py, spec).map_err(failed)?;
        let app = self.import(py, spec, app, &start_limit).map_err(failed)?;
        let interface = import::interface(&app, spec).map_err(failed)?;
        Ok(Loaded { app, interface, start_limit, _until_it_is_ready: crash_file })
    }

    /// Starts the executor, and listens. Returns what calls the app.
    pub(super) fn prepare<'py, E: Executor>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        loaded: Loaded<'py>,
        errors: &Bound<'py, PyAny>,
    ) -> Result<Arc<E>, Failed> {
        let Loaded { app, start_limit, .. } = loaded;
        let failed = |error: PyErr| import::failed(py, &error, spec);
        let starting = start_limit.step(Step::Startup);
        let executor = E::new(app, spec, &self.host, errors).map_err(failed)?;
        drop(starting);
        self.become_ready(py, spec, &executor, start_limit)?;
        Ok(Arc::new(executor))
    }

    fn import<'py>(
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
                import::import(py, spec, || asgi::before_import(py, spec))?
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
        self.listen(py, spec, executor).map_err(|error| Failed {
            reason: Reason::System.into(),
            message: with_causes(&error),
            traceback: String::new(),
        })?;
        let version = py.version_info();
        let python = format!("CPython {}.{}.{}", version.major, version.minor, version.patch);
        let Runs { interface, event_loop } = executor.runs();
        let ready = Ready {
            socket: spec.socket.clone(),
            capacity: executor.welcome().capacity,
            python,
            interface: interface.into(),
            r#loop: event_loop.to_owned(),
        };
        tracing::info!(
            app = spec.app,
            python = ready.python,
            event_loop = (!event_loop.is_empty()).then_some(event_loop),
            "serving"
        );
        self.state.send_modify(|state| state.ready = Some(ready));
        Ok(())
    }

    fn listen(
        &self,
        py: Python<'_>,
        spec: &Spec,
        executor: &impl Executor,
    ) -> Result<(), daemon::uds::ListenError> {
        let path = Path::new(&spec.socket);
        let (listener, socket) = self.host.driver.wait_outside(py, async { SocketFile::bind(path) })?;
        let _once = self.socket.set(socket);
        self.host.driver.spawn(executor.accept(listener, Peers::of(path)));
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
