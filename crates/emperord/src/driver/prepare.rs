//! Looks up what a start needs, such as the user. One lookup serves all starts of a generation.

use std::sync::Arc;

use api::VassalName;
use vassal::Vassal;

use super::Driver;
use super::act::not_spawned;
use super::app::App;
use super::event::Event;
use super::lookup::LookupId;
use crate::launcher::{LaunchError, Prepared};

/// A pending preparation.
#[derive(Debug)]
pub(super) struct Preparation {
    lookup: LookupId,
    /// The workers that wait for it. If there are none, it is still used for those that come before its
    /// result.
    numbers: Vec<u16>,
    /// Whether the template waits for it.
    for_template: bool,
}

/// What waits for a preparation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Worker(u16),
    Template,
}

impl Driver {
    /// Starts a worker or template once its preparation is complete.
    pub(super) fn prepare(
        &mut self,
        name: &VassalName,
        generation: u64,
        vassal: &Arc<Vassal>,
        waiting: Waiting,
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if let Some(preparation) = app.preparations.get_mut(&generation) {
            return preparation.add(waiting);
        }
        let (launcher, asked, app_name) = (Arc::clone(&self.launcher), Arc::clone(vassal), name.clone());
        let question = move || launcher.prepare(&asked);
        let answer = move |lookup, result| Event::Prepared { app: app_name, lookup, generation, result };
        let lookup = self.ask(name, user_of(vassal), question, LaunchError::User, answer);
        let mut preparation = Preparation { lookup, numbers: Vec::new(), for_template: false };
        preparation.add(waiting);
        if let Some(app) = self.apps.get_mut(name) {
            app.preparations.insert(generation, preparation);
        }
    }

    pub(super) fn prepared(
        &mut self,
        name: &VassalName,
        lookup: LookupId,
        generation: u64,
        result: Result<Prepared, LaunchError>,
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let is_current = app.preparations.get(&generation).is_some_and(|it| it.lookup == lookup);
        let Some(preparation) = app.preparations.remove(&generation).filter(|_| is_current) else { return };
        let prepared = match result {
            Ok(prepared) => prepared,
            Err(error) => return self.not_prepared(name, &preparation, &error),
        };
        if preparation.for_template {
            self.start_template(name, generation, &prepared);
        }
        for number in preparation.numbers {
            if let Some(event) = self.start_prepared(name, number, generation, &prepared) {
                self.notify(name, event);
            }
        }
    }

    fn not_prepared(&mut self, name: &VassalName, preparation: &Preparation, error: &LaunchError) {
        if preparation.for_template {
            tracing::error!(app = %name, %error, "cannot start the template");
        }
        for number in &preparation.numbers {
            let Some(app) = self.apps.get(name) else { return };
            let worker = app.worker(*number);
            self.note_not_started(&worker, &error.to_string());
            self.notify(name, not_spawned(*number, error));
        }
    }
}

impl Preparation {
    fn add(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Worker(number) => self.numbers.push(number),
            Waiting::Template => self.for_template = true,
        }
    }
}

impl App {
    /// The number of workers that wait for a preparation that takes long.
    pub(super) fn slowly_prepared(&self) -> usize {
        let slow = self.preparations.values().filter(|it| self.waits.contains_key(&it.lookup));
        slow.map(|it| it.numbers.len()).sum()
    }

    /// Cancels the preparation of a worker, which then isn't started. Returns false if there was none.
    pub(super) fn call_off_preparation(&mut self, number: u16) -> bool {
        let mut called_off = 0;
        for preparation in self.preparations.values_mut() {
            called_off += preparation.numbers.extract_if(.., |it| *it == number).count();
        }
        called_off > 0
    }
}

/// Describes the lookup of the app's user.
fn user_of(vassal: &Vassal) -> String {
    match (&vassal.confinement.user, vassal.confinement.owner) {
        (Some(user), _) => format!("user {user} to be looked up"),
        (None, Some(uid)) => format!("user {uid} to be looked up"),
        (None, None) => "its user to be looked up".to_owned(),
    }
}
