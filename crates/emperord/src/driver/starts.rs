//! Starts processes one by one, as the queue shared by all apps allows.

use std::time::Instant;

use api::VassalName;
use supervise::{Demand, Event, Running, Supervisor};

use super::Driver;
use super::app::App;

impl Driver {
    /// Starts what may be started now. Each app asks again until it has all workers that it wants.
    pub(super) fn start_more(&mut self) {
        loop {
            let now = Instant::now();
            if self.recovery.as_ref().is_some_and(|it| now < it.starts_from()) {
                return;
            }
            let demand = |(name, supervisor): (&VassalName, &Supervisor)| -> Option<(VassalName, Demand)> {
                Some((name.clone(), supervisor.demand(now)?))
            };
            let running = running(self.apps.values());
            let waiting: Vec<_> = self.supervisors().filter_map(demand).collect();
            let Some(app) = self.starts.next(running, waiting) else { return };
            if self.count_consequences(&app, Event::MayStart) == 0 {
                return;
            }
        }
    }

    fn supervisors(&self) -> impl Iterator<Item = (&VassalName, &Supervisor)> {
        self.apps.iter().map(|(name, app)| (name, &app.supervisor))
    }
}

/// Counts running starts, without those that wait for a lookup and so use no CPU time.
fn running<'a>(apps: impl Iterator<Item = &'a App>) -> Running {
    apps.fold(Running::default(), |mut running, app| {
        let starting = app.supervisor.starting().saturating_sub(app.slowly_prepared());
        match app.supervisor.is_proven() {
            true => running.proven += starting,
            false => running.unproven += starting,
        }
        running
    })
}
