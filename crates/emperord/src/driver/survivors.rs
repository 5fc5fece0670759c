//! Workers that are alive though nothing is written down of them: the file of workers was lost or damaged.

use std::time::{Duration, Instant};

use api::WorkerName;
use supervise::{Adoption, Event};
use tokio::sync::mpsc;

use super::Driver;
use super::app::{App, Slot};
use super::event::{Attaching, Command, Taking};
use crate::process::Process;

/// How long workers have to attach before others are started in their places: they try once a second.
const EXPECTED_WITHIN: Duration = Duration::from_secs(3);
/// How long one that attaches later is adopted still.
const ADOPTED_WITHIN: Duration = Duration::from_secs(15);
/// What a worker has to finish of which no app is known.
const GRACE: Duration = Duration::from_secs(30);

/// While workers may be alive of which nothing is known.
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

    /// Until when nothing is started.
    pub(super) fn starts_from(self) -> Instant {
        self.began + EXPECTED_WITHIN
    }
}

impl Driver {
    /// Adopts a worker of which nothing is written down, if it serves and can be one that an earlier emperord started.
    /// Which version it runs is not known: it serves until one of the current version is ready in its place.
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
        self.tell(&worker.vassal, Event::Adopted { number, generation: 0, stage: Adoption::Ready, age });
        self.await_end(worker.clone(), process);
        true
    }

    /// Tells a worker to end that has no number: it finishes what it has begun.
    pub(super) fn turn_away(
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
