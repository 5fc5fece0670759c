//! The sole owner of all state: passes each event to the supervisor of its app, and carries out its
//! decisions.

mod act;
mod admin;
mod app;
mod attach;
mod crash;
mod developer;
mod edits;
mod forks;
mod lookup;
mod missing;
mod preload;
mod prepare;
mod restore;
mod starts;
mod status;
mod stop;
mod survivors;
#[cfg(test)]
pub(crate) mod tests;
mod units;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use api::{VassalName, WorkerName};
use config::EmperordConfig;
use supervise::StartQueue;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::launch::Launcher;
use crate::messages::{Event, Events, OrderId, WatchId};
use crate::routes::{Table, Watch};
use crate::state::{Alive, State};
use crate::vassals::{FileEvent, FolderIdentity};
use app::App;
use lookup::Lookups;
use survivors::Recovery;

/// The capacity of the event queue.
const BACKLOG: usize = 1024;

/// All apps, their workers and the routing table.
pub struct Driver {
    config: EmperordConfig,
    launcher: Arc<dyn Launcher>,
    state: State,
    routes: Table,
    apps: BTreeMap<VassalName, App>,
    shutdown: Shutdown,
    events: mpsc::WeakSender<Event>,
    tasks: TaskTracker,
    orders: OrderId,
    starts: StartQueue<VassalName>,
    watches: WatchId,
    /// The folder that the apps' files were last read from.
    folder: Option<FolderIdentity>,
    recovery: Option<Recovery>,
    lookups: Lookups,
    /// Requests for the routing table that wait until it is complete.
    watchers: Vec<oneshot::Sender<Watch>>,
}

/// Whether emperord is shutting down.
pub(super) enum Shutdown {
    None,
    /// Answered once all workers have exited.
    Asked(Vec<oneshot::Sender<()>>),
}

impl Driver {
    /// Adopts the workers that an earlier emperord left, then applies `files`. Requests for the routing table
    /// are answered once it is complete.
    #[must_use]
    pub fn start(
        config: EmperordConfig,
        launcher: Arc<dyn Launcher>,
        state: State,
        files: Vec<FileEvent>,
        tasks: TaskTracker,
    ) -> (Self, Events, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let starts = StartQueue::new(config.concurrent_starts);
        let mut driver = Self {
            config,
            launcher,
            state,
            routes: Table::new(),
            apps: BTreeMap::new(),
            shutdown: Shutdown::None,
            events: sender.downgrade(),
            tasks,
            orders: OrderId::default(),
            starts,
            watches: WatchId::default(),
            folder: None,
            recovery: None,
            lookups: Lookups::new(),
            watchers: Vec::new(),
        };
        if driver.state.is_lost() {
            let folder = driver.config.workers_folder();
            driver.recovery = Some(Recovery::begin(Instant::now(), &folder));
        }
        driver.restore(files);
        driver.settle();
        (driver, sender, receiver)
    }

    /// Runs until it is told to stop, or until all workers have exited after a shutdown. Returning doesn't
    /// stop any worker.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while !self.is_shut_down() {
            let event = tokio::select! {
                event = events.recv() => event.unwrap_or(Event::Stop),
                () = wake_at(self.next_wake()) => Event::Tick,
            };
            match event {
                Event::Stop => break,
                // Every worker sends this every second, and it rarely has consequences.
                Event::Load { worker, attachment, load } => {
                    if self.load(&worker, attachment, load) > 0 {
                        self.settle();
                    }
                }
                event => {
                    self.handle(event);
                    self.settle();
                }
            }
        }
        self.answer_shutdown();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::File(event) => self.file(event),
            Event::GetSpec { worker, caller, reply } => {
                self.accept_process(&worker, caller);
                drop(reply.send(self.spec_for(&worker, caller)));
            }
            Event::Ordered { worker, order, result } => self.order_ended(&worker, order, result),
            Event::Attach(attaching) => self.attach(*attaching),
            Event::Ready { worker, attachment, served } => self.ready(&worker, attachment, served),
            Event::Failed { worker, attachment, failure } => self.failed(&worker, attachment, &failure),
            Event::Unwell { worker, attachment, message } => self.unwell(&worker, attachment, message),
            Event::Stuck { worker, attachment } => self.stuck(&worker, attachment),
            Event::Held { worker, attachment } => self.held(&worker, attachment),
            Event::Draining { worker, attachment } => self.draining(&worker, attachment),
            Event::Detached { worker, attachment } => self.detached(&worker, attachment),
            Event::Ended { worker, identity, ending } => self.ended(&worker, identity, ending),
            Event::Lingered { worker, identity } => self.lingered(&worker, identity),
            Event::Template { app, pid, report } => self.template_reported(&app, pid, report),
            Event::ChildEnded => self.reap_orphans(),
            Event::Watch { reply } => self.watchers.push(reply),
            Event::Status { reply } => drop(reply.send(self.status())),
            Event::Scale { app, workers, reply } => self.scale(&app, workers, reply),
            Event::Reload { app, reply } => self.reload(&app, reply),
            Event::Forget { apps, reply } => drop(reply.send(self.forget(&apps))),
            Event::Shutdown { reply } => self.shut_down(reply),
            Event::Sources { app, watch, noticed } => self.sources(&app, watch, noticed),
            Event::Slow { app, lookup, what } => self.slow(&app, lookup, what),
            Event::Answered { app, lookup } => self.answered(&app, lookup),
            Event::Admitted { app, lookup, result } => self.admitted(&app, lookup, result),
            Event::Prepared { app, lookup, generation, result } => {
                self.prepared(&app, lookup, generation, &result);
            }
            Event::Written { app, lookup, workers, result } => self.written(&app, lookup, workers, result),
            Event::Tick => self.tick(),
            Event::Load { .. } | Event::Stop => {}
        }
    }

    fn tick(&mut self) {
        let names: Vec<VassalName> = self.apps.keys().cloned().collect();
        for name in names {
            self.notify(&name, supervise::Event::Tick);
        }
    }

    /// Follow-up work after every event: starts processes, answers waiting requests, forgets what is over,
    /// and saves the list of workers.
    fn settle(&mut self) {
        self.adopt_listeners();
        self.end_recovery();
        self.start_more();
        self.answer_watchers();
        self.watch_for_edits();
        self.tell_news();
        for app in self.apps.values_mut() {
            app.settle();
        }
        let over: Vec<VassalName> =
            self.apps.iter().filter(|(_, app)| app.is_over()).map(|(name, _)| name.clone()).collect();
        for name in over {
            self.apps.remove(&name);
            self.starts.forget(&name);
            self.forget_units(&name);
        }
        let workers = self.apps.values().flat_map(App::records).collect();
        let missing = |app: &App| Some((app.name.to_string(), app.missing?));
        let missing = self.apps.values().filter_map(missing).collect();
        if let Err(error) = self.state.save(Alive { workers, folder: self.folder, missing }) {
            let error = anyhow::Error::from(error);
            tracing::error!(error = format!("{error:#}"), "cannot save the list of running workers");
        }
    }

    /// Until it is known for each file whether it will be followed, the table is incomplete, and frontd would
    /// mistake it for complete.
    fn answer_watchers(&mut self) {
        if self.apps.values().any(|app| app.pending_version.as_ref().is_some_and(|it| it.holds_routes)) {
            return;
        }
        for reply in std::mem::take(&mut self.watchers) {
            let _gone = reply.send(self.routes.watch());
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let recovery = self.recovery.as_ref().and_then(|it| it.next_wake(now));
        self.apps.values().filter_map(|app| app.supervisor.next_wake(now)).chain(recovery).min()
    }

    fn app_of(&mut self, worker: &WorkerName) -> Option<&mut App> {
        self.apps.get_mut(&worker.vassal)
    }
}

async fn wake_at(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
