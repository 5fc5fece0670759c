//! Watches the source files of apps that reload on changes, or that can't start before an edit.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use api::VassalName;
use config::emperord::{ConfiguredBy, Mode};
use daemon::logging::NOTICE;
use supervise::Progress;
use tokio::task::AbortHandle;
use vassal::Vassal;

use super::Driver;
use super::admin::Shutdown;
use super::app::App;
use super::event::Event;
use super::files::Workers;
use crate::sources::{Changed, Noticed, Since, Sources};

/// Identifies a watch of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchId(u64);

/// A watch of an app's source files. It ends when this is dropped.
pub(super) struct Edits {
    id: WatchId,
    purpose: Purpose,
    /// The configuration that names the files.
    vassal: Arc<Vassal>,
    /// Why some changes are noticed late or never.
    pub(super) problem: Option<String>,
    task: AbortHandle,
}

/// The purpose of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The app's file asks for a reload after each change.
    Reload,
    /// The app can't start before a change.
    Retry,
}

/// What the developer is told once all workers of an app serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// They have its changed files.
    Reloaded {
        /// When the change was noticed.
        began: Instant,
    },
    /// They started although nothing has changed since a failure that was reported.
    Recovered,
}

impl Driver {
    /// Starts and stops watches as needed.
    pub(super) fn watch_for_edits(&mut self) {
        let mut due = Vec::new();
        for app in self.apps.values_mut() {
            if !app.is_watched_as_wanted() {
                due.push(app.name.clone());
            }
        }
        for name in due {
            self.watch_sources(&name);
        }
    }

    fn watch_sources(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.edits = None;
        let Some((vassal, purpose)) = app.wanted_watch() else { return };
        let vassal = Arc::clone(vassal);
        self.watches.0 += 1;
        let (id, events, app_name) = (self.watches, self.events.clone(), name.clone());
        let since = match purpose {
            Purpose::Reload => Since::Moment(SystemTime::now()),
            Purpose::Retry => Since::FailedStart(app.last_start),
        };
        let mut watcher = Sources::of(&vassal).watch(since);
        let task = self.tasks.spawn(async move {
            loop {
                let noticed = watcher.next().await;
                let Some(events) = events.upgrade() else { return };
                let _nobody_left =
                    events.send(Event::Sources { app: app_name.clone(), watch: id, noticed }).await;
            }
        });
        app.edits = Some(Edits { id, purpose, vassal, problem: None, task: task.abort_handle() });
    }

    pub(super) fn sources(&mut self, name: &VassalName, watch: WatchId, noticed: Noticed) {
        let shown = (!self.is_only_app()).then(|| name.to_string());
        let by = self.config.configured_by;
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(edits) = app.edits.as_mut().filter(|it| it.id == watch) else { return };
        if !matches!(self.shutdown, Shutdown::None) {
            return;
        }
        match (noticed, edits.purpose) {
            (Noticed::Limited(problem), _) => {
                let problem = problem.to_string();
                tracing::warn!(app = %name, "{problem}");
                edits.problem = Some(problem);
            }
            (Noticed::Changed(changed), Purpose::Retry) => {
                let hint = hint(&changed, &edits.vassal, by);
                tracing::info!(target: NOTICE, app = shown, "{changed}: starting the app again{hint}");
                app.edits = None;
                app.awaited_news = Some(News::Reloaded { began: Instant::now() });
                self.notify(name, supervise::Event::SourcesChanged);
            }
            (Noticed::Changed(changed), Purpose::Reload) => {
                let hint = hint(&changed, &edits.vassal, by);
                tracing::info!(target: NOTICE, app = shown, "{changed}: reloading{hint}");
                self.reload_sources(name);
            }
        }
    }

    /// Reports that a reload is complete, or that an app works again, once all workers are ready.
    pub(super) fn tell_news(&mut self) {
        let is_only = self.is_only_app();
        for app in self.apps.values_mut() {
            if app.awaited_news.is_none() || app.supervisor.progress() != Progress::Done {
                continue;
            }
            let Some(news) = app.awaited_news.take() else { continue };
            let workers = app.supervisor.ready().count();
            let plural = if workers == 1 { "" } else { "s" };
            let name = (!is_only).then(|| app.name.to_string());
            let what = match news {
                News::Reloaded { began } => format!("reloaded in {} ms", began.elapsed().as_millis()),
                News::Recovered => "the app has recovered".to_owned(),
            };
            tracing::info!(target: NOTICE, app = name, "{what}, {workers} worker{plural}");
        }
    }

    /// Whether a developer runs one app: no notice needs to say which one it is about.
    pub(super) fn is_only_app(&self) -> bool {
        self.apps.len() == 1 && self.config.mode == Mode::Development
    }

    /// Replaces the workers. Errors in the current version of the app's file are kept.
    fn reload_sources(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let (Some(vassal), error) = (app.vassal.clone(), app.file_error.clone()) else { return };
        let began = Instant::now();
        self.follow(name, vassal, Workers::Anew);
        if let Some(app) = self.apps.get_mut(name) {
            app.file_error = error;
            app.awaited_news = Some(News::Reloaded { began });
        }
    }
}

/// What to know of a `.env` file that only the app may read.
fn hint(changed: &Changed, vassal: &Vassal, by: ConfiguredBy) -> &'static str {
    match (changed.are_env_files() && vassal.env_file.is_none(), by) {
        (false, _) => "",
        (true, ConfiguredBy::Files) => {
            " (Imperium sets no variables from it without `env_file` in the app's file)"
        }
        (true, ConfiguredBy::Options) => " (Imperium sets no variables from it without `--env-file`)",
    }
}

impl App {
    fn wanted_watch(&self) -> Option<(&Arc<Vassal>, Purpose)> {
        let vassal = self.vassal.as_ref()?;
        let purpose = match vassal.reload.watch {
            true => Purpose::Reload,
            false if self.supervisor.awaits_edit() => Purpose::Retry,
            false => return None,
        };
        Some((vassal, purpose))
    }

    /// Whether the watch is as it should be. A watch continues if a new version of the app's file names the
    /// same files.
    fn is_watched_as_wanted(&mut self) -> bool {
        let Some((vassal, purpose)) = self.wanted_watch() else { return self.edits.is_none() };
        let vassal = Arc::clone(vassal);
        let Some(edits) = self.edits.as_mut().filter(|it| it.purpose == purpose) else { return false };
        if !Arc::ptr_eq(&edits.vassal, &vassal) {
            if Sources::of(&edits.vassal) != Sources::of(&vassal) {
                return false;
            }
            edits.vassal = vassal;
        }
        true
    }
}

impl Drop for Edits {
    fn drop(&mut self) {
        self.task.abort();
    }
}
