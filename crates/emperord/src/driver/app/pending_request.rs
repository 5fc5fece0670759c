//! Requests of the operator that wait until an app has reached a state.

use supervise::Progress;

use super::App;
use crate::messages::{AdminError, LookupId, Reply};

/// A request that waits until an app has reached a state.
pub(crate) struct PendingRequest {
    goal: Goal,
    /// The number of failed starts when the request arrived.
    failures: u64,
    reply: Reply,
    /// The pending write of the number of workers, if any.
    pub(crate) unwritten: Option<LookupId>,
}

/// The state that a request waits for.
pub(crate) enum Goal {
    /// This number of workers serves, and the file asks for it.
    Workers(u32),
    /// All workers run this generation, or a newer one.
    Generation(u64),
}

impl App {
    /// Refuses requests that wait for another number of workers than the file asks for now.
    pub(crate) fn refuse_superseded(&mut self, workers: u16) {
        let app = &self.name;
        let is_superseded = |it: &mut PendingRequest| {
            it.unwritten.is_none() && matches!(it.goal, Goal::Workers(n) if n != u32::from(workers))
        };
        for request in self.pending_requests.extract_if(.., is_superseded) {
            request.refuse(AdminError::Superseded { app: app.clone(), workers });
        }
    }

    /// Refuses requests that wait for a slow write.
    pub(crate) fn refuse_unwritten(&mut self, lookup: LookupId, what: &str) {
        for request in self.pending_requests.extract_if(.., |it| it.unwritten == Some(lookup)) {
            request.refuse(AdminError::Scale(format!(
                "waiting for {what}: the disk doesn't respond; the number may still be written"
            )));
        }
    }

    pub(crate) fn answer_at(&mut self, goal: Goal, reply: Reply, unwritten: Option<LookupId>) {
        let failures = self.supervisor.start_failures();
        self.pending_requests.push(PendingRequest { goal, failures, reply, unwritten });
    }
}

impl PendingRequest {
    /// Answers the request if its outcome is known, otherwise returns it.
    pub(crate) fn answer_if_known(self, app: &App) -> Option<Self> {
        let outcome = match self.goal.is_reached(app) {
            _ if self.unwritten.is_some() => return Some(self),
            true => Ok(()),
            false if app.supervisor.start_failures() > self.failures => Err(AdminError::Start(why(app))),
            false if self.reply.is_closed() => return None,
            false => return Some(self),
        };
        let _gone = self.reply.send(outcome);
        None
    }

    pub(crate) fn refuse(self, error: AdminError) {
        let _gone = self.reply.send(Err(error));
    }
}

impl Goal {
    fn is_reached(&self, app: &App) -> bool {
        match self {
            Self::Workers(workers) => {
                let is_asked_for = app.vassal.as_ref().is_some_and(|it| u32::from(it.workers) == *workers);
                is_asked_for && app.supervisor.is_full()
            }
            Self::Generation(generation) => {
                app.supervisor.generation() >= *generation && app.supervisor.progress() == Progress::Done
            }
        }
    }
}

fn why(app: &App) -> String {
    app.worker_error.clone().unwrap_or_else(|| format!("a worker of {} failed to start", app.name))
}
