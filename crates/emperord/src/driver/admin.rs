//! The operator's requests: carried out at once, answered when they have taken effect.

use std::convert::identity;

use api::VassalName;
use supervise::Event;
use tokio::sync::oneshot;

use super::app::{App, Goal, NewWorkers};
use super::{Driver, Shutdown};
use crate::messages::{self, AdminError, LookupId, Reply};
use crate::vassals::{EditError, set_workers};

impl Driver {
    /// Changes the number of workers by editing the app's file, which then takes effect like any edit.
    pub(super) fn scale(&mut self, name: &VassalName, workers: u32, reply: Reply) {
        let file = match self.app_to_change(name) {
            Ok(app) => app.file.clone(),
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (what, app) = (format!("{} to be written", file.display()), name.clone());
        let question = move || set_workers(&file, workers).map_err(chain);
        let lookup = self.ask(name, what, question, identity, move |lookup, result| {
            messages::Event::Written { app, lookup, workers, result }
        });
        if let Some(app) = self.apps.get_mut(name) {
            app.answer_at(Goal::Workers(workers), reply, Some(lookup));
        }
    }

    /// The number of workers was written, or not. The request is answered once they serve, or now if the
    /// write failed.
    pub(super) fn written(
        &mut self,
        name: &VassalName,
        lookup: LookupId,
        workers: u32,
        result: Result<(), String>,
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if result.is_ok() {
            tracing::info!(app = %name, workers, "wrote the number of workers into the app's file");
        }
        let Some(at) = app.pending_requests.iter().position(|it| it.unwritten == Some(lookup)) else {
            return;
        };
        match result {
            Ok(()) => app.pending_requests[at].unwritten = None,
            Err(error) => app.pending_requests.remove(at).refuse(AdminError::Scale(error)),
        }
    }

    /// An app whose first version is still being checked starts with it, so there is nothing else to reload.
    pub(super) fn reload(&mut self, name: &VassalName, reply: Reply) {
        let app = match self.app_to_change(name) {
            Ok(app) => app,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let vassal = app.vassal.clone();
        if vassal.is_none() && app.pending_version.is_none() {
            return drop(reply.send(Err(AdminError::Removed(name.clone()))));
        }
        // Before the reload, so that a start that fails immediately is noticed.
        app.answer_at(Goal::Generation(app.supervisor.generation() + 1), reply, None);
        if let Some(vassal) = vassal {
            self.follow(name, vassal, NewWorkers::Always);
        }
    }

    pub(super) fn shut_down(&mut self, reply: oneshot::Sender<()>) {
        if let Shutdown::Asked(replies) = &mut self.shutdown {
            return replies.push(reply);
        }
        tracing::info!("shutting down: draining every worker");
        self.shutdown = Shutdown::Asked(vec![reply]);
        for name in self.apps.keys().cloned().collect::<Vec<_>>() {
            if let Some(app) = self.apps.get_mut(&name) {
                app.refuse_pending_requests(&AdminError::ShuttingDown);
            }
            self.notify(&name, Event::Removed);
            self.end_template(&name);
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        matches!(self.shutdown, Shutdown::Asked(_)) && self.apps.values().all(App::has_no_process)
    }

    pub(super) fn answer_shutdown(&mut self) {
        if let Shutdown::Asked(replies) = std::mem::replace(&mut self.shutdown, Shutdown::None) {
            for reply in replies {
                let _gone = reply.send(());
            }
        }
    }

    /// Returns an app whose file is valid.
    fn app_to_change(&mut self, name: &VassalName) -> Result<&mut App, AdminError> {
        if matches!(self.shutdown, Shutdown::Asked(_)) {
            return Err(AdminError::ShuttingDown);
        }
        let known = self.known();
        let app = self.apps.get_mut(name);
        let app = app.ok_or_else(|| AdminError::NoSuchApp { app: name.clone(), known })?;
        match &app.file_error {
            Some(error) => Err(AdminError::File(error.clone())),
            None => Ok(app),
        }
    }

    pub(super) fn known(&self) -> String {
        let names: Vec<&str> = self.apps.keys().map(VassalName::as_str).collect();
        match names.is_empty() {
            true => format!("{} has no vassal files", self.config.vassals.display()),
            false => format!("choose one of {}", names.join(", ")),
        }
    }
}

fn chain(error: EditError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
