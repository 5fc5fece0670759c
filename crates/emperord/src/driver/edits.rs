//! Apps that only an edit helps: their own files are watched, and they are tried again when those change.

use api::VassalName;
use tokio::task::AbortHandle;

use super::Driver;
use super::app::App;
use super::event;
use crate::sources::Sources;

/// Tells two watches of one app apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchId(u64);

/// A watch of an app's own files, which ends when this is dropped.
pub(super) struct Edits {
    id: WatchId,
    task: AbortHandle,
}

impl Driver {
    /// Watches the files of the apps that await an edit, and of no other.
    pub(super) fn watch_for_edits(&mut self) {
        for app in self.apps.values_mut().filter(|app| !app.supervisor.awaits_edit()) {
            app.edits = None;
        }
        let waits = |app: &&App| app.edits.is_none() && app.supervisor.awaits_edit();
        let waiting: Vec<_> = self.apps.values().filter(waits).map(|app| app.name.clone()).collect();
        for name in waiting {
            self.watch_sources(&name);
        }
    }

    fn watch_sources(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(vassal) = &app.vassal else { return };
        self.watches.0 += 1;
        let (id, events, app_name) = (self.watches, self.events.clone(), name.clone());
        let (sources, since) = (Sources::of(vassal), app.last_start);
        let task = self.tasks.spawn(async move {
            sources.changed(since).await;
            if let Some(events) = events.upgrade() {
                let changed = event::Event::SourcesChanged { app: app_name, watch: id };
                let _nobody_left = events.send(changed).await;
            }
        });
        app.edits = Some(Edits { id, task: task.abort_handle() });
    }

    pub(super) fn sources_changed(&mut self, name: &VassalName, watch: WatchId) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if app.edits.take_if(|it| it.id == watch).is_some() {
            tracing::info!(app = %name, "its files have changed: it is tried again");
            self.tell(name, supervise::Event::SourcesChanged);
        }
    }
}

impl Drop for Edits {
    fn drop(&mut self) {
        self.task.abort();
    }
}
