//! Looks up what a start needs, such as the user. One lookup serves all starts of a generation.

use std::sync::Arc;

use api::VassalName;
use vassal::Vassal;

use super::Driver;
use super::act::not_spawned;
use super::app::Preparation;
use crate::launch::{LaunchError, Prepared};
use crate::messages::{Event, LookupId};

impl Driver {
    /// Looks up what starts of a generation need, for all tenures that are [`Tenure::Preparing`] by then.
    pub(super) fn prepare(
        &mut self,
        name: &VassalName,
        generation: u64,
        vassal: &Arc<Vassal>,
    ) -> Option<&mut Preparation> {
        if !self.apps.get(name)?.preparations.contains_key(&generation) {
            let (launcher, asked, app) = (Arc::clone(&self.launcher), Arc::clone(vassal), name.clone());
            let question = move || launcher.prepare(&asked);
            let answer = move |lookup, result| Event::Prepared { app, lookup, generation, result };
            let lookup = self.ask(name, user_of(vassal), question, LaunchError::User, answer);
            let preparation = Preparation { lookup, for_template: false };
            self.apps.get_mut(name)?.preparations.insert(generation, preparation);
        }
        self.apps.get_mut(name)?.preparations.get_mut(&generation)
    }

    pub(super) fn prepared(
        &mut self,
        name: &VassalName,
        lookup: LookupId,
        generation: u64,
        result: &Result<Prepared, LaunchError>,
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if app.preparations.get(&generation).is_none_or(|it| it.lookup != lookup) {
            return;
        }
        let for_template = app.preparations.remove(&generation).is_some_and(|it| it.for_template);
        let numbers = app.preparing(generation);
        if for_template {
            match result {
                Ok(prepared) => self.start_template(name, generation, prepared),
                Err(error) => tracing::error!(app = %name, %error, "cannot start the template"),
            }
        }
        for number in numbers {
            self.start_if_wanted(name, number, generation, result.as_ref());
        }
    }

    /// Starts a worker that waits for the preparation. A failed start of another one may have called it off.
    fn start_if_wanted(
        &mut self,
        name: &VassalName,
        number: u16,
        generation: u64,
        prepared: Result<&Prepared, &LaunchError>,
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if !app.is_preparing(number, generation) {
            return;
        }
        let worker = app.worker(number);
        let failed = match prepared {
            Ok(prepared) => self.start_prepared(name, number, generation, prepared),
            Err(error) => {
                self.note_not_started(&worker, &error.to_string());
                Some(not_spawned(number, error))
            }
        };
        if let Some(event) = failed {
            if let Some(app) = self.apps.get_mut(name).filter(|it| it.is_preparing(number, generation)) {
                app.tenures.remove(&number);
            }
            self.notify(name, event);
        }
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
