//! Reports a worker's end to emperord, and exits.

use api::worker::failed::Reason;
use api::worker::{Failed, Spec};
use pyo3::prelude::*;
use tokio::time::timeout;

use super::attach::End;
use super::{END_REPORT_LIMIT, EXIT_IMPORT, EXIT_SYSTEM, EndReported, Worker};
use crate::python::process;

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
        self.driver.wait_outside(py, self.exchanges.all_half_closed());
        self.report_end(py, End::Drained, end_reported);
        if let Some(place) = self.place.get() {
            place.remove();
        }
        self.driver.stop(py);
        tracing::info!(requests = self.exchanges.work().ended, "drained");
    }

    fn report_end(&self, py: Python<'_>, end: End, end_reported: EndReported) {
        self.life.send_modify(|life| life.end = Some(end));
        let reported = self.driver.wait_outside(py, async { timeout(END_REPORT_LIMIT, end_reported).await });
        let _emperord_is_away = reported;
    }
}
