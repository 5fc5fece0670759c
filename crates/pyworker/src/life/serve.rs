//! Serves requests, and watches their limits, until this worker is drained.

use std::sync::Arc;

use pyo3::prelude::*;

use super::Worker;
use super::watchdog::Watchdog;
use crate::executor::Executor;
use crate::python::faulthandler::{Dump, Stacks};
use crate::python::imperium;

impl Worker {
    /// Serves until this worker is drained.
    pub(super) fn serve<E: Executor>(&self, py: Python<'_>, executor: &Arc<E>) -> PyResult<()> {
        imperium::set_this_call(E::this_call);
        self.watch_limits(py, &**executor)?;
        executor.run(py)?;
        // Wait for hooks of processes that exited just before the drain.
        self.host.driver.wait_outside(py, self.exit_hooks.settled());
        Ok(())
    }

    fn watch_limits(&self, py: Python<'_>, executor: &impl Executor) -> PyResult<()> {
        let dump = Arc::new(Dump::install(py, Stacks::Asked)?);
        let watchdog = Watchdog {
            host: self.host.clone(),
            state: Arc::clone(&self.state),
            interrupter: executor.interrupter(py, &dump)?,
            capacity: usize::try_from(executor.welcome().capacity).unwrap_or(usize::MAX),
        };
        self.host.driver.spawn(watchdog.run());
        self.host.driver.spawn(Arc::clone(&self.exit_hooks).run(dump));
        Ok(())
    }
}
