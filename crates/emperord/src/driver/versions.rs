//! Applies changes of vassal files.

use std::convert::identity;
use std::sync::Arc;

use api::VassalName;
use config::{Diagnostics, Problem};
use supervise::{Limits, Recycle};
use vassal::{ChosenBy, Conflict, Vassal, conflicts};

use super::app::{App, NewWorkers, PendingVersion};
use super::{Driver, Shutdown};
use crate::messages::{AdminError, Event, LookupId};
use crate::vassals::{FileEvent, FolderIdentity, Reading, Version};

impl Driver {
    pub(super) fn file(&mut self, event: FileEvent) {
        if !matches!(self.shutdown, Shutdown::None) {
            return;
        }
        let FileEvent { name, path, reading, digest } = event;
        self.folder = FolderIdentity::of(&self.config.vassals);
        let app = self.apps.entry(name.clone()).or_insert_with(|| App::new(name.clone(), path));
        if let Reading::Missing(why) = reading {
            return self.miss(&name, why);
        }
        app.rejected = None;
        app.pending_version = None;
        app.file_digest = digest;
        app.is_there();
        match reading {
            Reading::Edited(version) => self.version(&name, *version, NewWorkers::IfNeeded),
            Reading::Touched(version) => self.version(&name, *version, NewWorkers::Always),
            Reading::Broken(diagnostics) => self.broken(&name, &diagnostics),
            Reading::Gone => self.removed(&name),
            Reading::Missing(_) => {}
        }
        self.retry_rejected();
    }

    /// A valid version is followed, unless something outside of its file prevents it.
    fn version(&mut self, name: &VassalName, version: Version, workers: NewWorkers) {
        match self.obstacle(&version.vassal) {
            None => self.admit(name, version, workers),
            Some(obstacle) => {
                self.broken(name, &obstacle);
                self.reject(name, version);
            }
        }
    }

    /// Follows a version if its workers can be started as it says. The user is determined now. It is
    /// determined again only for another version, or if the operator asks for a reload.
    fn admit(&mut self, name: &VassalName, mut version: Version, workers: NewWorkers) {
        let is_known = workers == NewWorkers::IfNeeded
            && self.state.good_version(name).is_some_and(|text| text == version.text);
        if let Some(known) = self.state.owner(name).filter(|_| is_known) {
            // If something else has changed since, the next worker fails to start.
            version.vassal.confinement.owner = Some(known);
            return self.accept(name, version, workers);
        }
        let (launcher, vassal, app) = (Arc::clone(&self.launcher), version.vassal.clone(), name.clone());
        let what = match &vassal.confinement.user {
            Some(user) => format!("user {user} to be looked up"),
            None => format!("the owner of {}", vassal.directory.display()),
        };
        let question = move || launcher.admit(&vassal);
        let lookup = self.ask(name, what, question, identity, move |lookup, result| Event::Admitted {
            app,
            lookup,
            result,
        });
        if let Some(app) = self.apps.get_mut(name) {
            app.pending_version = Some(PendingVersion { lookup, version, workers, holds_routes: false });
        }
    }

    /// The result of the check: follows the version, or reports why it can't be followed.
    pub(super) fn admitted(
        &mut self,
        name: &VassalName,
        lookup: LookupId,
        result: Result<Option<u32>, String>,
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(pending) = app.pending_version.take_if(|it| it.lookup == lookup) else { return };
        if !matches!(self.shutdown, Shutdown::None) {
            return;
        }
        let PendingVersion { mut version, workers, .. } = pending;
        match (result, self.obstacle(&version.vassal)) {
            (Err(why), _) => self.broken(name, &Problem::of_file(&version.vassal.file, why).into()),
            // Another app was admitted meanwhile.
            (Ok(_), Some(obstacle)) => {
                self.broken(name, &obstacle);
                self.reject(name, version);
            }
            (Ok(owner), None) => {
                version.vassal.confinement.owner = owner;
                self.accept(name, version, workers);
            }
        }
        self.retry_rejected();
    }

    /// Another app has its domain and path, or its sockets' paths would be too long.
    fn obstacle(&self, vassal: &Vassal) -> Option<Diagnostics> {
        match vassal.check_sockets(&self.config) {
            Err(diagnostics) => Some(diagnostics),
            Ok(()) => self.conflict(vassal).map(|it| it.diagnostics()),
        }
    }

    fn conflict(&self, vassal: &Vassal) -> Option<Conflict> {
        let others = self.apps.values().filter(|it| it.name != vassal.name);
        // The first version read gets the domain, whether or not it is followed yet.
        let asked = |it: &App| it.pending_version.as_ref().map(|it| it.version.vassal.clone());
        let asked: Vec<Vassal> = others.clone().filter_map(asked).collect();
        let vassals = others.filter_map(|it| it.vassal.as_deref()).chain(&asked).chain([vassal]);
        conflicts(vassals).into_iter().find(|it| it.file == vassal.file)
    }

    /// Makes a version the one that serves.
    fn accept(&mut self, name: &VassalName, version: Version, workers: NewWorkers) {
        if let Err(error) = self.state.keep_version(name, &version.text, version.vassal.confinement.owner) {
            let error = anyhow::Error::from(error);
            tracing::error!(app = %name, error = format!("{error:#}"), "this version will be lost if emperord restarts");
        }
        if let Some(app) = self.apps.get_mut(name) {
            app.refuse_superseded(version.vassal.workers);
        }
        self.follow(name, Arc::new(version.vassal), workers);
    }

    /// Makes an app's workers follow its file.
    pub(super) fn follow(&mut self, name: &VassalName, vassal: Arc<Vassal>, workers: NewWorkers) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let generation = app.next_generation(&vassal, workers);
        let wanted =
            supervise::Event::Wanted { generation, workers: vassal.workers, limits: limits(&vassal) };
        tracing::info!(app = %name, generation, workers = vassal.workers, "app configured");
        if vassal.app_chosen_by == ChosenBy::Folder {
            let directory = vassal.directory.display();
            tracing::info!(app = %name, chosen = %vassal.app, %directory, "found the app in its folder");
        }
        app.configurations.insert(generation, Arc::clone(&vassal));
        if generation != app.supervisor.generation() {
            // Errors of the previous generation don't apply to this one.
            app.worker_error = None;
            app.abandoned_error = None;
            app.broken = None;
        }
        let before = app.vassal.as_ref();
        let is_another_stop = before.is_some_and(|it| it.timeouts.stop != vassal.timeouts.stop);
        let is_another_drain =
            before.is_some_and(|it| it.timeouts.websocket_drain != vassal.timeouts.websocket_drain);
        let is_other_memory = before.is_some_and(|it| it.recycle.memory != vassal.recycle.memory);
        let are_others = before.is_some_and(|it| it.workers != vassal.workers);
        app.vassal = Some(vassal);
        app.file_error = None;
        self.notify(name, wanted);
        self.follow_preload(name);
        if are_others || is_another_stop || is_another_drain || is_other_memory {
            self.repeat_specs(name);
        }
        if is_another_drain {
            self.repeat_drains(name);
        }
        if is_another_stop {
            self.change_units(name);
        }
        self.publish(name);
    }

    /// A version with errors leaves the previous one serving.
    fn broken(&mut self, name: &VassalName, diagnostics: &Diagnostics) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let text = diagnostics.to_string();
        let serving =
            if app.vassal.is_some() { "the previous version keeps serving" } else { "it is not served" };
        for line in text.lines() {
            tracing::error!(app = %name, "{line}: {serving}");
        }
        app.refuse_pending_requests(&AdminError::File(text.clone()));
        app.file_error = Some(text);
    }

    pub(super) fn removed(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        tracing::info!(app = %name, "app stopped: its file was deleted");
        app.vassal = None;
        app.rejected = None;
        app.pending_version = None;
        app.missing = None;
        app.file_error = None;
        app.refuse_pending_requests(&AdminError::Removed(name.clone()));
        self.state.forget_version(name);
        self.publish(name);
        self.notify(name, supervise::Event::Removed);
        self.end_template(name);
    }

    /// Retries apps whose domain and path may be free now.
    fn retry_rejected(&mut self) {
        let names: Vec<VassalName> = self.apps.keys().cloned().collect();
        for name in names {
            let Some(version) = self.apps.get_mut(&name).and_then(|app| app.rejected.take()) else {
                continue;
            };
            match self.obstacle(&version.vassal) {
                None => self.admit(&name, version, NewWorkers::IfNeeded),
                Some(_) => self.reject(&name, version),
            }
        }
    }

    fn reject(&mut self, name: &VassalName, version: Version) {
        if let Some(app) = self.apps.get_mut(name) {
            app.rejected = Some(version);
        }
    }
}

fn limits(vassal: &Vassal) -> Limits {
    let vassal::Recycle { requests, lifetime, memory, jitter } = vassal.recycle;
    let recycle = Recycle { requests, lifetime, memory, jitter };
    let vassal::Timeouts { start, stop: grace, websocket_drain, .. } = vassal.timeouts;
    Limits { start, grace, websocket_drain, recycle }
}
