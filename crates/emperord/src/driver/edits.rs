//! Watches the source files of apps that reload on changes, or that can't start before an edit.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use api::VassalName;
use config::emperord::{ConfiguredBy, Mode};
use daemon::logging::NOTICE;
use supervise::Progress;
use vassal::Vassal;

use super::app::{NewWorkers, News, Purpose, SourceWatch};
use super::{Driver, Shutdown};
use crate::messages::{Event, WatchId};
use crate::sources::{ChangedFiles, Noticed, Since, Sources};

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
        app.source_watch = None;
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
        app.source_watch =
            Some(SourceWatch { id, purpose, vassal, problem: None, task: task.abort_handle() });
    }

    pub(super) fn sources(&mut self, name: &VassalName, watch: WatchId, noticed: Noticed) {
        let shown = (!self.is_only_app()).then(|| name.to_string());
        let by = self.config.configured_by;
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(edits) = app.source_watch.as_mut().filter(|it| it.id == watch) else { return };
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
                app.source_watch = None;
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
        self.follow(name, vassal, NewWorkers::Always);
        if let Some(app) = self.apps.get_mut(name) {
            app.file_error = error;
            app.awaited_news = Some(News::Reloaded { began });
        }
    }
}

/// What to know of a `.env` file that only the app may read.
fn hint(changed: &ChangedFiles, vassal: &Vassal, by: ConfiguredBy) -> &'static str {
    match (changed.are_env_files() && vassal.env_file.is_none(), by) {
        (false, _) => "",
        (true, ConfiguredBy::Files) => {
            " (Imperium sets no variables from it without `env_file` in the app's file)"
        }
        (true, ConfiguredBy::Options) => " (Imperium sets no variables from it without `--env-file`)",
    }
}
