//! Questions that a disk, the network or a directory service may be slow to answer, or never answer: asked on other
//! threads, and answered as events.

use std::sync::Arc;
use std::time::Duration;

use api::VassalName;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Driver;
use super::event::Event;

/// How many are asked at once, over all apps. The others wait for their turn.
const AT_ONCE: usize = 64;
/// After what time it is told that one is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// Tells two questions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LookupId(u64);

/// Those that were asked.
#[derive(Debug)]
pub(super) struct Lookups {
    last: LookupId,
    turns: Arc<Semaphore>,
    told_after: Duration,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self { last: LookupId::default(), turns: Arc::new(Semaphore::new(AT_ONCE)), told_after: TOLD_AFTER }
    }
}

impl Driver {
    /// Asks for an app, and has the answer told as an event; before that, that it is waited for, if it takes long. `what`
    /// is asked about.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        app: &VassalName,
        what: String,
        question: impl FnOnce() -> T + Send + 'static,
        answer: impl FnOnce(LookupId, T) -> Event + Send + 'static,
    ) -> LookupId {
        self.lookups.last.0 += 1;
        let (lookup, events, app) = (self.lookups.last, self.events.clone(), app.clone());
        let (turns, told_after) = (Arc::clone(&self.lookups.turns), self.lookups.told_after);
        self.tasks.spawn(async move {
            let mut asked = std::pin::pin!(async {
                let turn = turns.acquire_owned().await.ok()?;
                // One that is never answered keeps its turn: threads are bounded, too.
                let asked = spawn_blocking(move || (question(), turn));
                asked.await.ok().map(|(it, _turn)| it)
            });
            let answered = tokio::select! {
                biased;
                it = &mut asked => it,
                () = sleep(told_after) => {
                    if let Some(events) = events.upgrade() {
                        let _nobody_left = events.send(Event::Slow { app: app.clone(), lookup, what }).await;
                    }
                    asked.await
                }
            };
            if let (Some(it), Some(events)) = (answered, events.upgrade()) {
                let _nobody_left = events.send(Event::Answered { app, lookup }).await;
                let _nobody_left = events.send(answer(lookup, it)).await;
            }
        });
        lookup
    }

    /// An answer takes long: the operator is told, and nobody waits for it in vain.
    pub(super) fn slow(&mut self, name: &VassalName, lookup: LookupId, what: String) {
        let Some(app) = self.apps.get_mut(name) else { return };
        tracing::warn!(app = %name, "waiting for {what}: the disk, the network or the user database does not answer");
        app.refuse_unwritten(lookup, &what);
        if let Some(admission) = app.admission.as_mut().filter(|it| it.lookup == lookup) {
            admission.holds_routes = false;
        }
        app.waits.insert(lookup, what);
    }

    pub(super) fn answered(&mut self, name: &VassalName, lookup: LookupId) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if let Some(what) = app.waits.remove(&lookup) {
            tracing::info!(app = %name, "waited for {what}: it has come");
        }
    }

    #[cfg(test)]
    pub(super) fn tell_after(&mut self, limit: Duration) {
        self.lookups.told_after = limit;
    }
}
