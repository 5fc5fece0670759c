//! What has a worker number, from the decision to start a worker until its process has exited.

use super::App;
use super::worker_process::WorkerProcess;
use crate::launch::ForkId;
use crate::messages::{Attaching, OrderId};
use crate::pidfd::Ending;

/// What has a worker number.
///
/// ```text
///             ┌─ its unit is started ──▶ Ordered ── its process asks what to run ──┐
///  Preparing ─┼─ its template forks ───▶ Forking ── the fork is reported ──────────┼─▶ Running ──▶ Ending
///             └─ its process is started ───────────────────────────────────────────┘
/// ```
///
/// The number is free again when a start fails or is called off, and when the process has exited. Only an order
/// can't be called off at once: its number is free when the service manager has cancelled it.
#[derive(Debug)]
pub(crate) enum Tenure {
    /// Its start waits for what its generation needs.
    Preparing { generation: u64 },
    /// The service manager was told to start it, and its process hasn't asked what to run.
    Ordered(Order),
    /// The app's template was told to fork it, and hasn't reported the fork.
    Forking(Forking),
    /// Its process is running.
    Running(Box<WorkerProcess>),
    /// Its process exited like this while it was starting, and its last messages may still be in transit.
    Ending(Box<WorkerProcess>, Ending),
}

/// An order to the service manager.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    /// Nobody waits for its process any more.
    pub(crate) is_cancelled: bool,
}

/// An order to the app's current template.
#[derive(Debug)]
pub(crate) struct Forking {
    pub(crate) id: ForkId,
    /// Processes that attached with this number before the template has reported its fork.
    pub(crate) early: Vec<Attaching>,
}

impl App {
    /// The process that has a number.
    pub(crate) fn worker_process(&self, number: u16) -> Option<&WorkerProcess> {
        match self.tenures.get(&number)? {
            Tenure::Running(process) | Tenure::Ending(process, _) => Some(process),
            Tenure::Preparing { .. } | Tenure::Ordered(_) | Tenure::Forking(_) => None,
        }
    }

    pub(crate) fn worker_process_mut(&mut self, number: u16) -> Option<&mut WorkerProcess> {
        match self.tenures.get_mut(&number)? {
            Tenure::Running(process) | Tenure::Ending(process, _) => Some(process),
            Tenure::Preparing { .. } | Tenure::Ordered(_) | Tenure::Forking(_) => None,
        }
    }

    /// All processes of workers, by number.
    pub(crate) fn worker_processes(&self) -> impl Iterator<Item = (u16, &WorkerProcess)> {
        self.tenures.keys().filter_map(|number| Some((*number, self.worker_process(*number)?)))
    }

    /// Gives a number to a process.
    pub(crate) fn runs(&mut self, number: u16, process: WorkerProcess) {
        self.tenures.insert(number, Tenure::Running(Box::new(process)));
    }

    /// Frees the number of a process that has exited.
    pub(crate) fn take_worker_process(&mut self, number: u16) -> Option<WorkerProcess> {
        self.worker_process(number)?;
        match self.tenures.remove(&number)? {
            Tenure::Running(process) | Tenure::Ending(process, _) => Some(*process),
            Tenure::Preparing { .. } | Tenure::Ordered(_) | Tenure::Forking(_) => None,
        }
    }

    /// The process of a worker has exited, and its last messages are awaited.
    pub(crate) fn is_ending(&mut self, number: u16, ending: Ending) {
        match self.tenures.remove(&number) {
            Some(Tenure::Running(process)) => {
                self.tenures.insert(number, Tenure::Ending(process, ending));
            }
            Some(other) => {
                self.tenures.insert(number, other);
            }
            None => {}
        }
    }

    /// How the process of a worker exited, while its last messages are awaited.
    pub(crate) fn ending(&self, number: u16) -> Option<Ending> {
        match self.tenures.get(&number)? {
            Tenure::Ending(_, ending) => Some(*ending),
            _ => None,
        }
    }

    /// Whether a worker waits for the preparation of that generation.
    pub(crate) fn is_preparing(&self, number: u16, of: u64) -> bool {
        matches!(self.tenures.get(&number), Some(Tenure::Preparing { generation }) if *generation == of)
    }

    /// The workers that wait for the preparation of a generation.
    pub(crate) fn preparing(&self, of: u64) -> Vec<u16> {
        let waits = |it: &Tenure| matches!(it, Tenure::Preparing { generation } if *generation == of);
        self.tenures.iter().filter(|(_, it)| waits(it)).map(|(number, _)| *number).collect()
    }

    /// The pending orders to the template.
    pub(crate) fn forking(&self) -> impl Iterator<Item = (u16, &Forking)> {
        self.tenures.iter().filter_map(|(number, it)| match it {
            Tenure::Forking(forking) => Some((*number, forking)),
            _ => None,
        })
    }
}
