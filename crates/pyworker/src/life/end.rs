//! Reports a worker's end to emperord, and exits.

use std::time::Duration;

use api::worker::failed::Reason;
use api::worker::{Failed, Spec};
use pyo3::prelude::*;
use tokio::time::timeout;

use super::start::EndReported;
use super::state::End;
use super::{EXIT_IMPORT, EXIT_SYSTEM, Worker};
use crate::python::process;

/// How long it tries to report its end to emperord.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

impl Worker {
    /// Reports why the app can't run, and exits.
    pub(super) fn fail(&self, py: Python<'_>, failed: Failed, end_reported: EndReported, spec: &Spec) -> ! {
        let traceback = if failed.traceback.is_empty() { &failed.message } else { &failed.traceback };
        match spec.development {
            // In development, emperord reports it to the developer.
            true => tracing::debug!("cannot run the app\n{traceback}"),
            false => tracing::error!("cannot run the app\n{traceback}"),
        }
        let code = if matches!(failed.reason(), Reason::Import | Reason::Source) {
            EXIT_IMPORT
        } else {
            EXIT_SYSTEM
        };
        self.report_end(py, End::Failed(failed), end_reported);
        // A normal exit would wait for threads that the app has started.
        process::exit_now(code)
    }

    /// The app has finished all requests. Waits until frontd has read everything. The drain's deadline limits
    /// that for slow clients (`control`).
    pub(super) fn end(&self, py: Python<'_>, end_reported: EndReported) {
        self.host.driver.wait_outside(py, self.host.requests.all_half_closed());
        self.report_end(py, End::Drained, end_reported);
        if let Some(socket) = self.socket.get() {
            socket.remove();
        }
        self.host.driver.stop(py);
        tracing::info!(requests = self.host.requests.work().ended, "drained");
    }

    fn report_end(&self, py: Python<'_>, end: End, end_reported: EndReported) {
        self.state.send_modify(|state| state.end = Some(end));
        let reported = self.host.driver.wait_outside(py, async { timeout(REPORT_LIMIT, end_reported).await });
        let _emperord_is_away = reported;
    }
}
