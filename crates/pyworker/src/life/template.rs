//! The template of an app with `preload`: imports the app once, starts no thread, and forks workers when
//! emperord orders it. A forked worker shares its memory pages and imports nothing, so it is ready in
//! milliseconds.

mod fork;
mod inherited;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use api::VassalName;
use api::worker::template_order::Message as Order;
use api::worker::template_report::Message as Report;
use api::worker::{Failed, Fork, Forked, Imported, Spec, TemplateOrder, TemplateReport};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use self::fork::{Side, fork};
use self::inherited::Sockets;
use super::start_limit::{StartLimit, Step};
use super::{Arguments, EXIT_IMPORT, start};
use crate::python::{imperium, import, process};

/// Runs a template until emperord has gone. Returns only in the workers that it forks, with their exit
/// status.
pub(crate) fn run(py: Python<'_>, app: &str, emperord: PathBuf, log_format: &str) -> PyResult<i32> {
    let name = VassalName::parse(app).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let format = log_format.parse().map_err(PyValueError::new_err)?;
    let _last_lines = daemon::logging::init(&format!("{name}-template"), format);
    process::set_title(&format!("imperium: {name} [template]"), "workerd");
    imperium::set_app(app);
    let errors = start::set_up(py)?;
    let mut orders = Orders::of_stdin()?;
    let Some(Order::Spec(spec)) = orders.next()? else {
        return Err(PyRuntimeError::new_err("the first order isn't a spec"));
    };
    let before = Sockets::now();
    let imported =
        import(py, &spec).and_then(|app| inherited::check_threads(py, spec.preload_threads).map(|()| app));
    let loaded = match imported {
        Ok(loaded) => loaded,
        Err(error) => fail(&mut orders, import::failed(py, &error, &spec), &spec),
    };
    before.warn_of_new();
    tracing::info!(app = spec.app, "imported: forking workers from here");
    orders.report(Report::Imported(Imported {}))?;
    let Fork { worker, .. } = follow_orders(py, &mut orders)?;
    drop(orders);
    let arguments = Arguments::new(&worker, emperord, log_format, spec.generation)?;
    super::run_forked(py, &arguments, loaded, &errors)
}

fn import<'py>(py: Python<'py>, spec: &Spec) -> PyResult<Bound<'py, PyAny>> {
    let start_limit = StartLimit::watch(py, spec)?;
    let _step = start_limit.step(Step::Import);
    // Each worker has a loop of its own.
    import::import(py, spec, || Ok(()))
}

/// Forks on each order. Returns in each worker, with its order.
fn follow_orders(py: Python<'_>, orders: &mut Orders) -> PyResult<Fork> {
    loop {
        match orders.next()? {
            Some(Order::Fork(order)) => {
                flush(py)?;
                let forked = match fork(py) {
                    Ok(Side::Worker) => return Ok(order),
                    Ok(Side::Template(pid)) => Forked { id: order.id, pid, error: String::new() },
                    Err(error) => Forked { id: order.id, pid: 0, error: error.to_string() },
                };
                if orders.report(Report::Forked(forked)).is_err() {
                    process::exit_now(0);
                }
            }
            Some(Order::Spec(_)) => {}
            // The app's exit handlers don't run: no request was ever served here.
            None => process::exit_now(0),
        }
    }
}

fn fail(orders: &mut Orders, failed: Failed, spec: &Spec) -> ! {
    // In development, emperord reports it to the developer.
    if !spec.development {
        tracing::error!("cannot run the app\n{}", failed.traceback);
    }
    if let Err(error) = orders.report(Report::Failed(failed)) {
        tracing::warn!(%error, "cannot reach emperord to report the failure");
    }
    process::exit_now(EXIT_IMPORT)
}

/// Flushes the app's output. Otherwise each worker would print it again.
fn flush(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    for name in ["stdout", "stderr"] {
        sys.getattr(name)?.call_method0("flush")?;
    }
    Ok(())
}

/// The orders of emperord, over a connection that the template inherits as standard input.
struct Orders(UnixStream);

impl Orders {
    fn of_stdin() -> io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self(socket.into()))
    }

    /// Receives the next order. None if emperord has gone.
    fn next(&mut self) -> io::Result<Option<Order>> {
        loop {
            match daemon::framed::receive(&mut self.0) {
                Ok(Some(TemplateOrder { message: None })) => {}
                Ok(order) => return Ok(order.and_then(|it| it.message)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn report(&mut self, report: Report) -> io::Result<()> {
        daemon::framed::send(&mut self.0, &TemplateReport { message: Some(report) })
    }
}
