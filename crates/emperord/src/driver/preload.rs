//! Starts and stops the templates of apps.

use std::path::PathBuf;
use std::sync::Arc;

use api::VassalName;
use rustix::process::Signal;
use supervise::Event;

use super::app::App;
use super::attach::{exit, never_attached};
use super::developer::Reported;
use super::{Driver, Shutdown};
use crate::launch::{Import, LaunchError, Prepared, Template, TemplateEvent};
use crate::messages;
use crate::pidfd::Ending;
use crate::spec::{Failure, WorkerSpec};

/// The notice for an app with `preload` under systemd.
pub(super) const NO_PRELOAD: &str =
    "`preload` has no effect: systemd starts each worker separately. Remove it";

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    /// No worker of the generation is left.
    #[error("its configuration is no longer known")]
    Unknown,
    /// The launcher can't fork workers.
    #[error("systemd starts each worker separately")]
    Unsupported,

    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl Driver {
    /// Starts a template for the current generation if the app's file asks for one, and stops any other.
    pub(super) fn follow_preload(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get(name) else { return };
        let generation = app.supervisor.generation();
        let wants_one = app.vassal.as_ref().is_some_and(|it| it.preload.is_on());
        if !wants_one {
            return self.end_template(name);
        }
        if self.launcher.templates().is_none() {
            return tracing::warn!(app = %name, "{NO_PRELOAD}");
        }
        if app.has_template_of(generation) {
            return;
        }
        let Some(vassal) = app.configurations.get(&generation).map(Arc::clone) else { return };
        self.end_template(name);
        if let Some(preparation) = self.prepare(name, generation, &vassal) {
            preparation.for_template = true;
        }
    }

    /// Starts the template of a generation, if that is still the current one.
    pub(super) fn start_template(&mut self, name: &VassalName, generation: u64, prepared: &Prepared) {
        let wants_it = |app: &App| {
            app.supervisor.generation() == generation
                && app.vassal.as_ref().is_some_and(|it| it.preload.is_on())
        };
        // During a shutdown, nothing would ever end it.
        if !matches!(self.shutdown, Shutdown::None) || !self.apps.get(name).is_some_and(wants_it) {
            return;
        }
        if let Err(error) = self.ensure_template(name, generation, prepared) {
            tracing::error!(app = %name, %error, "cannot start the template");
        }
    }

    pub(super) fn ensure_template(
        &mut self,
        name: &VassalName,
        generation: u64,
        prepared: &Prepared,
    ) -> Result<(), TemplateError> {
        if self.apps.get(name).is_some_and(|it| it.has_template_of(generation)) {
            return Ok(());
        }
        self.end_template(name);
        let app = self.apps.get(name).ok_or(TemplateError::Unknown)?;
        let vassal = app.configurations.get(&generation).map(Arc::clone).ok_or(TemplateError::Unknown)?;
        let templates = self.launcher.templates().ok_or(TemplateError::Unsupported)?;
        let started = templates.start_template(&vassal, prepared)?;
        let pid = started.0.identity().pid;
        tracing::info!(app = %name, pid, generation, "template started");
        // It is no worker, so it has neither number nor socket.
        let (socket, mode) = (PathBuf::new(), self.config.mode);
        let spec = WorkerSpec { number: 0, generation, vassal, socket, mode };
        let (events, app) = (self.events.clone(), name.clone());
        let template = Template::import(&self.tasks, started, &spec, move |report| {
            let (events, app) = (events.upgrade(), app.clone());
            async move {
                if let Some(events) = events {
                    let _nobody_left = events.send(messages::Event::Template { app, pid, report }).await;
                }
            }
        });
        if let Some(app) = self.apps.get_mut(name) {
            app.template = Some(template);
        }
        Ok(())
    }

    /// Stops the template. Its exit is awaited, as for every process.
    pub(super) fn end_template(&mut self, name: &VassalName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if let Some(template) = app.template.take() {
            app.former_processes.insert(template.process.identity().pid);
            // SIGKILL, since it serves no requests, and the app may handle SIGTERM.
            template.process.signal(Signal::KILL);
            self.fail_forks(name, Ending::Unknown, None);
        }
    }

    pub(super) fn template_reported(&mut self, name: &VassalName, pid: u32, report: TemplateEvent) {
        let is_current = self.apps.get(name).is_some_and(|app| app.has_template(pid));
        match report {
            TemplateEvent::Forked { id, forked } => self.forked(name, pid, id, forked),
            TemplateEvent::Imported if is_current => self.imported(name),
            TemplateEvent::Failed(failure) if is_current => {
                let generation = self.apps.get(name).and_then(|app| Some(app.template.as_ref()?.generation));
                if self.tell_developer(name, generation.unwrap_or_default(), &failure) == Reported::No {
                    let Failure { reason, message, .. } = &failure;
                    tracing::error!(app = %name, ?reason, "template cannot run the app: {message}");
                }
                if let Some(template) = self.apps.get_mut(name).and_then(|app| app.template.as_mut()) {
                    template.failure = Some(failure);
                }
            }
            TemplateEvent::Imported | TemplateEvent::Failed(_) => {}
            TemplateEvent::Ended(ending) => self.template_ended(name, pid, ending),
        }
    }

    fn imported(&mut self, name: &VassalName) {
        tracing::info!(app = %name, "template is ready");
        if let Some(template) = self.apps.get_mut(name).and_then(|app| app.template.as_mut()) {
            template.import = Import::Done;
        }
    }

    fn template_ended(&mut self, name: &VassalName, pid: u32, ending: Ending) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.has_ended(pid);
        if !app.has_template(pid) {
            app.former_processes.remove(&pid);
            return;
        }
        let (python, awaits_forks) = (app.current_python(), app.forking().next().is_some());
        let Some(Template { failure, import, generation, .. }) = app.template.take() else { return };
        match &failure {
            Some(_) => tracing::info!(app = %name, pid, %ending, "template ended"),
            None => tracing::warn!(app = %name, pid, %ending, "template exited unexpectedly"),
        }
        match &failure {
            Some(failure) => app.worker_error = Some(failure.describe(&format!("the template of {name}"))),
            None if !awaits_forks => {}
            None => {
                let who = format!("the template of {name}");
                let told = match import == Import::Underway && matches!(ending, Ending::Status(_)) {
                    true => {
                        never_attached(&who, &ending, &python.unwrap_or_default(), self.config.configured_by)
                    }
                    false => format!("{who} {ending}: see the log"),
                };
                let _logged = self.note_failed_start(name, generation, told.clone(), told);
            }
        }
        self.fail_forks(name, ending, failure.as_ref());
    }

    /// Fails the pending orders of a template that has exited.
    fn fail_forks(&mut self, name: &VassalName, ending: Ending, failure: Option<&Failure>) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let numbers: Vec<u16> = app.forking().map(|(number, _)| number).collect();
        for number in &numbers {
            app.tenures.remove(number);
        }
        for number in numbers {
            self.notify(name, Event::Exited { number, exit: exit(ending, failure) });
        }
    }
}

impl App {
    fn has_template_of(&self, generation: u64) -> bool {
        self.template.as_ref().is_some_and(|it| it.generation == generation)
    }

    pub(super) fn has_template(&self, pid: u32) -> bool {
        self.template.as_ref().is_some_and(|it| it.is_process(pid))
    }
}
