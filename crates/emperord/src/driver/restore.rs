//! Takes over what an earlier emperord left.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{VassalName, WorkerName};
use supervise::{Adoption, Event};
use vassal::Vassal;

use super::Driver;
use super::app::{App, NewWorkers, WorkerProcess};
use crate::pidfd::Process;
use crate::state::{StageRecord, WorkerRecord};
use crate::vassals::{FileEvent, FolderIdentity};

impl Driver {
    /// Adopts the running workers, then treats the folder's files as edits of the versions that they run. So
    /// existing apps keep their domains, and a file that was broken meanwhile does no harm.
    pub(super) fn restore(&mut self, files: Vec<FileEvent>) {
        for record in self.state.workers().to_vec() {
            self.adopt(&record);
        }
        let there: BTreeSet<VassalName> = files.iter().map(|it| it.name.clone()).collect();
        for name in self.apps.keys().chain(&there).cloned().collect::<BTreeSet<_>>() {
            self.restore_version(&name);
        }
        let files_there = files.len();
        for name in self.apps.keys().filter(|it| !there.contains(it)).cloned().collect::<Vec<_>>() {
            match self.missing_since_before(&name, files_there) {
                Some(why) => self.miss(&name, why),
                None => self.removed(&name),
            }
        }
        self.folder = FolderIdentity::of(&self.config.vassals);
        for file in files {
            self.file(file);
        }
        for name in self.apps.keys().cloned().collect::<Vec<_>>() {
            self.keep_restored(&name);
        }
        for pending in self.apps.values_mut().filter_map(|it| it.pending_version.as_mut()) {
            pending.holds_routes = true;
        }
    }

    fn adopt(&mut self, record: &WorkerRecord) {
        let Ok(worker) = WorkerName::parse(&record.name) else { return };
        let Some(process) = Process::of(record.identity) else {
            tracing::warn!(%worker, pid = record.identity.pid, "worker exited while emperord wasn't running");
            self.app_or_new(&worker.vassal).has_ended(record.identity.pid);
            return self.remove_socket(&worker);
        };
        tracing::info!(%worker, pid = record.identity.pid, "worker adopted");
        let app = self.app_or_new(&worker.vassal);
        let known = WorkerProcess::new(process.clone(), record.fingerprint.clone(), record.serving.clone());
        app.runs(worker.number, known);
        app.restored_generation = app.restored_generation.max(record.generation);
        let (number, generation) = (worker.number, record.generation);
        let (stage, age) = (adoption(record.stage), record.identity.age());
        self.notify(&worker.vassal, Event::Adopted { number, generation, stage, age });
        self.await_end(worker, process);
    }

    /// Restores the last valid version of an app's file, if it can still be used.
    fn restore_version(&mut self, name: &VassalName) {
        let Some(text) = self.state.good_version(name) else { return };
        let proven = self.state.proven_version(name);
        let (owner, proven_owner) = (self.state.owner(name), self.state.proven_owner(name));
        let app = self.app_or_new(name);
        match Vassal::parse(&app.file, &text) {
            Ok(mut vassal) => {
                vassal.confinement.owner = owner;
                app.restore(vassal);
            }
            Err(error) => {
                tracing::warn!(app = %name, %error, "the last good version can't be used any more");
                return;
            }
        }
        let mut proven = proven.and_then(|text| Vassal::parse(&app.file, &text).ok());
        proven.iter_mut().for_each(|it| it.confinement.owner = proven_owner);
        if let Some(generation) = proven.map(|it| app.restore_proven(it)) {
            self.notify(name, Event::Proven { generation });
        }
    }

    /// Saves the current version as one that works, once it does.
    pub(super) fn keep_proven(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let generation = app.supervisor.generation();
        if !app.supervisor.is_proven() || app.proven_saved == Some(generation) {
            return;
        }
        app.proven_saved = Some(generation);
        if let Err(error) = self.state.keep_proven(name) {
            let error = anyhow::Error::from(error);
            tracing::error!(app = %name, error = format!("{error:#}"), "cannot save this version: it can't be restored after a restart of emperord");
        }
    }

    /// If the file is invalid, the last valid version keeps serving.
    fn keep_restored(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get(name).filter(|it| it.supervisor.generation() == 0) else { return };
        let error = app.file_error.clone();
        if let Some(vassal) = app.vassal.clone() {
            self.follow(name, vassal, NewWorkers::IfNeeded);
        }
        if let Some(app) = self.apps.get_mut(name) {
            app.file_error = error;
        }
    }

    fn app_or_new(&mut self, name: &VassalName) -> &mut App {
        let file = self.config.vassals.join(format!("{name}.toml"));
        self.apps.entry(name.clone()).or_insert_with(|| App::new(name.clone(), file))
    }
}

impl App {
    /// Restores the version that was saved. The recorded fingerprints tell what the workers run. If the
    /// newest of them run something else, this version is newer.
    fn restore(&mut self, vassal: Vassal) {
        let fingerprint = vassal.process_fingerprint();
        let newest = self.restored_generation;
        let is_newest = |number| self.supervisor.worker(number).is_some_and(|it| it.generation == newest);
        let runs_it =
            self.worker_processes().any(|(number, it)| is_newest(number) && it.fingerprint == fingerprint);
        self.restored_generation = if runs_it { newest } else { newest + 1 };
        self.vassal = Some(Arc::new(vassal));
    }

    /// Restores the last version that worked: it serves if the current one, or a later one, can't start. Returns its
    /// generation.
    fn restore_proven(&mut self, proven: Vassal) -> u64 {
        let fingerprint = proven.process_fingerprint();
        if self.vassal.as_ref().is_some_and(|it| it.process_fingerprint() == fingerprint) {
            return self.restored_generation;
        }
        let runs_it = |(number, process): (u16, &WorkerProcess)| {
            let worker = self.supervisor.worker(number).filter(|_| process.fingerprint == fingerprint)?;
            Some(worker.generation)
        };
        let running = self.worker_processes().filter_map(runs_it).max();
        self.restored_generation = self.restored_generation.max(2);
        let generation = running.unwrap_or(self.restored_generation - 1);
        self.configurations.insert(generation, Arc::new(proven));
        generation
    }
}

fn adoption(stage: StageRecord) -> Adoption {
    match stage {
        StageRecord::Starting => Adoption::Starting,
        StageRecord::Ready => Adoption::Ready,
        // One that was sent a signal will exit, or gets another signal at the end of its grace period.
        StageRecord::Draining | StageRecord::Stopping => Adoption::Draining,
    }
}
