//! Prepares a worker: imports the app, checks its health, and listens on the socket.

use std::path::Path;
use std::sync::Arc;

use api::worker::failed::Reason;
use api::worker::{Failed, Ready, Spec};
use pyo3::prelude::*;

use super::health;
use super::startup::{Startup, Step};
use super::{App, Worker};
use crate::executor::failure::Failures;
use crate::link::peers::Peers;
use crate::link::server;
use crate::link::socket::Place;
use crate::python::{forked, imperium, import};
use crate::wsgi::greenlets;
use crate::wsgi::{Concurrency, Wsgi};

impl Worker {
    /// Imports the app, unless the template already has, and listens.
    pub(super) fn prepare<'py>(
        &self,
        py: Python<'py>,
        spec: &Spec,
        app: App<'py>,
        errors: &Bound<'py, PyAny>,
    ) -> Result<Arc<Wsgi>, Failed> {
        let startup = Startup::watch(py, spec).map_err(|error| import::failed(py, &error, spec))?;
        let app = match app {
            App::Imported(app) => Ok(app),
            App::ToImport => self.import(py, spec, &startup),
        };
        // Also in workers that weren't forked, so that an app behaves the same with and without `preload`.
        let app = app.and_then(|app| self.run_fork_hooks(py, &startup).map(|()| app));
        let app = app.and_then(|app| greenlets::check(py, spec.threads).map(|()| app));
        let app = app.map_err(|error| import::failed(py, &error, spec))?;
        let concurrency = Concurrency { threads: spec.threads, spec: Arc::clone(&self.spec) };
        let wsgi = Wsgi::new(app, &concurrency, errors, Arc::clone(&self.driver))
            .map(|it| it.with_sendfile(&spec.sendfile_folders).with_failures(Failures::of(spec)));
        let wsgi = wsgi.map_err(|error| import::failed(py, &error, spec))?;
        if !spec.health.is_empty() {
            health::wait_until_healthy(py, &wsgi, &self.driver, spec, &self.life, &startup);
        }
        // A process that the app has forked must not drop this. It exits here.
        forked::end_if_forked();
        drop(startup);
        self.listen(py, spec).map_err(|error| Failed {
            reason: Reason::System.into(),
            message: with_causes(&error),
            traceback: String::new(),
        })?;
        let version = py.version_info();
        let python = format!("CPython {}.{}.{}", version.major, version.minor, version.patch);
        let ready = Ready { socket: spec.socket.clone(), capacity: spec.threads.max(1), python };
        tracing::info!(app = spec.app, python = ready.python, "serving");
        self.life.send_modify(|life| life.ready = Some(ready));
        Ok(Arc::new(wsgi))
    }

    fn import<'py>(&self, py: Python<'py>, spec: &Spec, startup: &Startup) -> PyResult<Bound<'py, PyAny>> {
        let (_inside, _step) = (self.driver.enter(), startup.step(Step::Import));
        import::import(py, spec)
    }

    fn run_fork_hooks(&self, py: Python<'_>, startup: &Startup) -> PyResult<()> {
        let (_inside, _step) = (self.driver.enter(), startup.step(Step::Hooks));
        imperium::run_fork_hooks(py)
    }

    fn listen(&self, py: Python<'_>, spec: &Spec) -> Result<(), daemon::uds::ListenError> {
        let socket = Path::new(&spec.socket);
        let (listener, place) = self.driver.wait_outside(py, async { Place::bind(socket) })?;
        let _once = self.place.set(place);
        let (peers, exchanges) = (Peers::of(socket), Arc::clone(&self.exchanges));
        self.driver.spawn(server::serve(listener, peers, exchanges, spec.threads.max(1)));
        Ok(())
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
