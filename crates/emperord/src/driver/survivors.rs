//! Adopts running workers that aren't recorded, because the state file was lost or damaged.

use std::time::{Duration, Instant};

use api::WorkerName;
use supervise::{Adoption, Event};
use tokio::sync::mpsc;

use super::Driver;
use super::app::{App, Slot};
use super::event::{Attaching, Command, Taking};
use crate::process::Process;

/// How long to wait for such workers before others are started with their numbers. They try to attach once a
/// second.
const EXPECTED_WITHIN: Duration = Duration::from_secs(3);
/// How long such workers are adopted.
const ADOPTED_WITHIN: Duration = Duration::from_secs(15);
/// The drain time of a worker whose app is unknown.
const GRACE: Duration = Duration::from_secs(30);

/// The period in which unrecorded workers may attach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovery {
    began: Instant,
}

impl Recovery {
    pub(super) fn begin(now: Instant) -> Self {
        tracing::warn!(
            "the list of running workers is unknown: workers that attach are adopted, before others are started"
        );
        Self { began: now }
    }

    /// No worker is started before this time.
    pub(super) fn starts_from(self) -> Instant {
        self.began + EXPECTED_WITHIN
    }
}

impl Driver {
    /// Adopts a worker that isn't recorded, if it serves and may have been started by an earlier emperord.
    /// Its version is unknown, so it serves until a worker of the current version replaces it.
    pub(super) fn take_over(&mut self, attaching: &Attaching) -> bool {
        let Attaching { worker, caller, served, taking, .. } = attaching;
        let now = Instant::now();
        let is_expected = self.recovery.is_some_and(|it| now < it.began + ADOPTED_WITHIN);
        if !is_expected || served.is_none() || *taking != Taking::Requests {
            return false;
        }
        let (number, pid) = (worker.number, caller.identity.pid);
        let Ok(process) = Process::open(pid) else { return false };
        let folder = self.config.worker_folder(&worker.vassal);
        let Some(vassal) = self.apps.get(&worker.vassal).and_then(|it| it.vassal.as_ref()) else {
            return false;
        };
        if !process.is(*caller) || !self.launcher.is_survivor(&process, worker, vassal, &folder) {
            return false;
        }
        let is_vacant = |app: &&mut App| app.vassal.is_some() && app.supervisor.worker(number).is_none();
        let Some(app) = self.apps.get_mut(&worker.vassal).filter(is_vacant) else { return false };
        tracing::warn!(%worker, pid, "adopted an unknown worker");
        app.slots.insert(number, Slot::new(process.clone(), String::new(), None));
        let age = caller.identity.age();
        self.notify(&worker.vassal, Event::Adopted { number, generation: 0, stage: Adoption::Ready, age });
        self.await_end(worker.clone(), process);
        true
    }

    /// Tells a worker without a number to finish its requests and exit.
    pub(super) fn dismiss(
        &self,
        worker: &WorkerName,
        pid: u32,
        serves: bool,
        commands: &mpsc::Sender<Command>,
    ) {
        let grace = self.apps.get(&worker.vassal).map_or(GRACE, |app| app.supervisor.limits().grace);
        let command = match serves {
            true => Command::Drain(grace),
            false => Command::Stop("it is not wanted any more".to_owned()),
        };
        tracing::warn!(%worker, pid, "stopping worker: it isn't wanted");
        let _gone = commands.try_send(command);
    }
}
