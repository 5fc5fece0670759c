//! The operator's requests: carried out at once, answered when they have taken effect.

use std::convert::identity;
use std::path::PathBuf;

use api::VassalName;
use supervise::{Event, Progress};
use tokio::sync::oneshot;

use super::Driver;
use super::app::App;
use super::event::{self, Reply};
use super::files::Workers;
use super::lookup::LookupId;
use crate::scale::{self, ScaleError};

/// Why an operator's request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is no such app.
    #[error("there is no app `{app}`: {known}")]
    NoSuchApp {
        /// The requested name.
        app: VassalName,
        /// A sentence that lists the existing apps.
        known: String,
    },
    /// Its file is invalid.
    #[error("{0}")]
    File(String),
    /// Its file can't be edited.
    #[error("{0}")]
    Scale(String),
    /// Its workers fail to start.
    #[error("{0}")]
    Start(String),
    /// Its file isn't missing.
    #[error("the file of app `{app}` is not missing: delete {} to stop the app", file.display())]
    NotMissing {
        /// The app.
        app: VassalName,
        /// Its file.
        file: PathBuf,
    },
    /// Its file was deleted meanwhile.
    #[error("app `{0}` was removed")]
    Removed(VassalName),
    /// Its file now asks for another number of workers.
    #[error("`workers` of app `{app}` is {workers} now: its file was changed again")]
    Superseded {
        /// The app.
        app: VassalName,
        /// The number that its file asks for now.
        workers: u16,
    },
    /// emperord is shutting down.
    #[error("emperord is shutting down")]
    ShuttingDown,
}

/// Whether emperord is shutting down.
pub(super) enum Shutdown {
    None,
    /// Answered once all workers have exited.
    Asked(Vec<oneshot::Sender<()>>),
}

/// A request that waits until an app has reached a state.
pub(super) struct Follower {
    goal: Goal,
    /// The number of failed starts when the request arrived.
    failures: u64,
    reply: Reply,
    /// The pending write of the number of workers, if any.
    unwritten: Option<LookupId>,
}

enum Goal {
    Workers(u32),
    Generation(u64),
}

impl Driver {
    /// Changes the number of workers by editing the app's file, which then takes effect like any edit.
    pub(super) fn scale(&mut self, name: &VassalName, workers: u32, reply: Reply) {
        let file = match self.app_to_change(name) {
            Ok(app) => app.file.clone(),
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (what, app) = (format!("{} to be written", file.display()), name.clone());
        let question = move || scale::write(&file, workers).map_err(chain);
        let lookup = self.ask(name, what, question, identity, move |lookup, result| event::Event::Written {
            app,
            lookup,
            workers,
            result,
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
        let Some(at) = app.followers.iter().position(|it| it.unwritten == Some(lookup)) else { return };
        match result {
            Ok(()) => app.followers[at].unwritten = None,
            Err(error) => app.followers.remove(at).refuse(AdminError::Scale(error)),
        }
    }

    /// An app whose first version is still being checked starts with it, so there is nothing else to reload.
    pub(super) fn reload(&mut self, name: &VassalName, reply: Reply) {
        let app = match self.app_to_change(name) {
            Ok(app) => app,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let vassal = app.vassal.clone();
        if vassal.is_none() && app.admission.is_none() {
            return drop(reply.send(Err(AdminError::Removed(name.clone()))));
        }
        // Before the reload, so that a start that fails immediately is noticed.
        app.answer_at(Goal::Generation(app.supervisor.generation() + 1), reply, None);
        if let Some(vassal) = vassal {
            self.follow(name, vassal, Workers::Anew);
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
                app.refuse_followers(&AdminError::ShuttingDown);
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

impl App {
    /// Refuses requests that wait for another number of workers than the file asks for now.
    pub(super) fn refuse_superseded(&mut self, workers: u16) {
        let app = &self.name;
        let is_superseded = |it: &mut Follower| {
            it.unwritten.is_none() && matches!(it.goal, Goal::Workers(n) if n != u32::from(workers))
        };
        for follower in self.followers.extract_if(.., is_superseded) {
            follower.refuse(AdminError::Superseded { app: app.clone(), workers });
        }
    }

    /// Refuses requests that wait for a slow write.
    pub(super) fn refuse_unwritten(&mut self, lookup: LookupId, what: &str) {
        for follower in self.followers.extract_if(.., |it| it.unwritten == Some(lookup)) {
            follower.refuse(AdminError::Scale(format!(
                "waiting for {what}: the disk doesn't respond; the number may still be written"
            )));
        }
    }

    fn answer_at(&mut self, goal: Goal, reply: Reply, unwritten: Option<LookupId>) {
        let failures = self.supervisor.start_failures();
        self.followers.push(Follower { goal, failures, reply, unwritten });
    }
}

impl Follower {
    /// Answers the request if its outcome is known, otherwise returns it.
    pub(super) fn follow(self, app: &App) -> Option<Self> {
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

    pub(super) fn refuse(self, error: AdminError) {
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

fn chain(error: ScaleError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
