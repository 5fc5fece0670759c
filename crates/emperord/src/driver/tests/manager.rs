//! A service manager that is played by the test.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use api::{VassalName, WorkerName};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use vassal::Vassal;

use crate::launch::{Inquiry, Job, JobError, LaunchError, Launcher, Prepared, Start, UnitManager};
use crate::pidfd::{Ending, Identity, Process};

/// The exit status that it reports for every process.
pub(super) const STATUS: i32 = 7;

/// Records its orders. An order completes when the test says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manager(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    orders: BTreeMap<String, oneshot::Sender<Result<(), JobError>>>,
    /// In order.
    all: Vec<String>,
    /// The reason why it can't stop anything.
    broken: Option<String>,
}

impl Manager {
    /// Waits until exactly these orders were recorded, in this order.
    pub(super) async fn asked(&self, expected: &[&str]) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while self.0.lock().all != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "asked for {:?}, not for {expected:?}", self.0.lock().all);
    }

    /// Completes an order like systemd when a start was cancelled.
    pub(super) fn cancels(&self, worker: &str) {
        self.ends(worker, JobError::Failed("canceled".to_owned()));
    }

    /// Completes an order like systemd when the unit's user doesn't exist.
    pub(super) fn refuses(&self, worker: &str) {
        self.ends(worker, JobError::Refused("217/USER".to_owned()));
    }

    fn ends(&self, worker: &str, error: JobError) {
        let order = self.0.lock().orders.remove(worker).unwrap();
        order.send(Err(error)).unwrap();
    }

    /// From now on, it can't stop anything.
    pub(super) fn breaks(&self) {
        self.0.lock().broken = Some("the bus has ended".to_owned());
    }

    fn note(&self, what: &str, whom: &dyn ToString) {
        self.0.lock().all.push(format!("{what} {}", whom.to_string()));
    }
}

impl Launcher for Manager {
    fn start(&self, worker: &WorkerName, _vassal: &Vassal, _: &Prepared) -> Result<Start, LaunchError> {
        self.note("start", worker);
        let (end, ended) = oneshot::channel();
        self.0.lock().orders.insert(worker.to_string(), end);
        Ok(Start::Ordered(Box::pin(async { ended.await.unwrap_or(Ok(())) })))
    }

    fn stop(&self, worker: &WorkerName, _process: Option<&Process>) -> Option<Job> {
        self.note("stop", worker);
        Some(Box::pin(ready(self.0.lock().broken.clone().map_or(Ok(()), |it| Err(JobError::Failed(it))))))
    }

    fn units(&self) -> Option<&dyn UnitManager> {
        Some(self)
    }
}

impl UnitManager for Manager {
    fn change(&self, worker: &WorkerName, _vassal: &Vassal) -> Job {
        self.note("change", worker);
        Box::pin(ready(Ok(())))
    }

    fn forget(&self, app: &VassalName) -> Job {
        self.note("forget", app);
        Box::pin(ready(Ok(())))
    }

    fn ending(&self, _worker: &WorkerName, _identity: Identity) -> Inquiry {
        Box::pin(ready(Ending::Status(STATUS)))
    }

    fn is_of(&self, _process: &Process, _worker: &WorkerName, _vassal: &Vassal) -> bool {
        true
    }
}
