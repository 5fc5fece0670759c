//! Whether a version of an app's file can be followed, and the generation that it gets.

use vassal::Vassal;

use super::App;
use crate::messages::LookupId;
use crate::vassals::Version;

/// Whether to start new workers even if nothing has changed that requires it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewWorkers {
    /// Only if necessary.
    IfNeeded,
    /// In any case.
    Always,
}

/// A valid version, for which it is being checked whether its workers can be started.
pub(crate) struct PendingVersion {
    pub(crate) lookup: LookupId,
    pub(crate) version: Version,
    pub(crate) workers: NewWorkers,
    /// Whether the routing table is incomplete without it.
    pub(crate) holds_routes: bool,
}

impl App {
    /// The generation to run `vassal`: the current one, unless a change requires new processes.
    pub(crate) fn next_generation(&self, vassal: &Vassal, workers: NewWorkers) -> u64 {
        let current = self.supervisor.generation().max(self.restored_generation);
        let runs_it = self.vassal.as_ref().is_some_and(|it| {
            it.process_fingerprint() == vassal.process_fingerprint()
                && it.confinement.owner == vassal.confinement.owner
        });
        match runs_it && workers == NewWorkers::IfNeeded && !self.supervisor.needs_new_generation() {
            true => current.max(1),
            false => current + 1,
        }
    }
}
