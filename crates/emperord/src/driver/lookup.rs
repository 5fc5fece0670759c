//! Lookups that may block on a disk, the network or a directory service: they run on other threads, and their
//! results arrive as events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::VassalName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Driver;
use crate::messages::{Event, LookupId};

/// The number of concurrent lookups over all apps. Others wait.
const AT_ONCE: usize = 64;
/// The number of concurrent lookups per app, so that those that hang leave threads for other apps. More than
/// one, so that an app's file can be corrected.
const AT_ONCE_PER_APP: usize = 4;
/// After this time, a pending lookup is reported.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// The pending lookups.
#[derive(Debug)]
pub(super) struct Lookups {
    last: LookupId,
    turns: Arc<Semaphore>,
    /// The permits of each app with pending lookups.
    app_turns: BTreeMap<VassalName, Arc<Semaphore>>,
    told_after: Duration,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self {
            last: LookupId::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            app_turns: BTreeMap::new(),
            told_after: TOLD_AFTER,
        }
    }

    /// Waits for permission to run a lookup of an app. The permit is returned when it is dropped.
    fn turn(
        &mut self,
        app: &VassalName,
    ) -> impl Future<Output = Option<[OwnedSemaphorePermit; 2]>> + Send + use<> {
        // Forget apps without pending lookups.
        self.app_turns.retain(|_, it| Arc::strong_count(it) > 1);
        let of_app = self.app_turns.entry(app.clone());
        let of_app = Arc::clone(of_app.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_PER_APP))));
        let of_all = Arc::clone(&self.turns);
        async move {
            // In this order: a lookup that waits for its app takes no permit from others.
            let of_app = of_app.acquire_owned().await.ok()?;
            Some([of_app, of_all.acquire_owned().await.ok()?])
        }
    }
}

impl Driver {
    /// Runs `question` for an app on another thread, and reports the result as an event. If it takes long, an
    /// event that describes `what` is sent first. `panicked` creates the result of a question that panics.
    pub(super) fn ask<T: Send + 'static, E: Send + 'static>(
        &mut self,
        app: &VassalName,
        what: String,
        question: impl FnOnce() -> Result<T, E> + Send + 'static,
        panicked: impl FnOnce(String) -> E + Send + 'static,
        answer: impl FnOnce(LookupId, Result<T, E>) -> Event + Send + 'static,
    ) -> LookupId {
        self.lookups.last.0 += 1;
        let (lookup, events, app) = (self.lookups.last, self.events.clone(), app.clone());
        let (turn, told_after) = (self.lookups.turn(&app), self.lookups.told_after);
        self.tasks.spawn(async move {
            let mut asked = std::pin::pin!(async {
                let turn = turn.await?;
                // A lookup that hangs keeps its permit, since threads are limited too.
                let asked = spawn_blocking(move || (question(), turn));
                Some(asked.await.map(|(it, _turn)| it))
            });
            let answered = tokio::select! {
                biased;
                it = &mut asked => it,
                () = sleep(told_after) => {
                    if let Some(events) = events.upgrade() {
                        let slow = Event::Slow { app: app.clone(), lookup, what: what.clone() };
                        let _nobody_left = events.send(slow).await;
                    }
                    asked.await
                }
            };
            if let (Some(it), Some(events)) = (answered, events.upgrade()) {
                let _nobody_left = events.send(Event::Answered { app, lookup }).await;
                let it = it.unwrap_or_else(|error| {
                    Err(panicked(format!("waited for {what}: emperord has a bug: {error}")))
                });
                let _nobody_left = events.send(answer(lookup, it)).await;
            }
        });
        lookup
    }

    /// A lookup takes long: reports it, and refuses requests that wait for it.
    pub(super) fn slow(&mut self, name: &VassalName, lookup: LookupId, what: String) {
        let Some(app) = self.apps.get_mut(name) else { return };
        tracing::warn!(app = %name, "waiting for {what}: the disk, the network or the user database doesn't respond");
        app.refuse_unwritten(lookup, &what);
        if let Some(pending) = app.pending_version.as_mut().filter(|it| it.lookup == lookup) {
            pending.holds_routes = false;
        }
        app.slow_lookups.insert(lookup, what);
    }

    pub(super) fn answered(&mut self, name: &VassalName, lookup: LookupId) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if let Some(what) = app.slow_lookups.remove(&lookup) {
            tracing::info!(app = %name, "finished waiting for {what}");
        }
    }

    #[cfg(test)]
    pub(super) fn tell_after(&mut self, limit: Duration) {
        self.lookups.told_after = limit;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_app_with_hanging_lookups_leaves_permits_for_others() {
        let mut lookups = Lookups::new();
        let [stuck, blog] = ["stuck", "blog"].map(|it| VassalName::parse(it).unwrap());
        let mut hanging = Vec::new();
        for _ in 0..AT_ONCE_PER_APP {
            hanging.push(lookups.turn(&stuck).await.unwrap());
        }
        let mut next = std::pin::pin!(lookups.turn(&stuck));
        assert!(timeout(Duration::ZERO, &mut next).await.is_err());
        assert!(timeout(Duration::ZERO, lookups.turn(&blog)).await.is_ok());
        // It waits for one of the hanging lookups.
        hanging.pop();
        drop(next.await);
        drop(hanging);
        drop(lookups.turn(&blog).await);
        assert_eq!(lookups.app_turns.keys().collect::<Vec<_>>(), [&blog], "other apps are forgotten");
    }
}
