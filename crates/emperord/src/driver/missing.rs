//! Handles apps whose files are missing although nobody deleted them: they keep serving until the files are
//! back, or the operator stops them.

use api::VassalName;

use super::app::App;
use super::{Driver, Shutdown};
use crate::messages::AdminError;
use crate::vassals::{FolderIdentity, Missing};

impl Driver {
    /// Keeps an app running whose file is missing.
    pub(super) fn miss(&mut self, name: &VassalName, why: Missing) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if app.vassal.is_none() && app.has_no_process() {
            // There is nothing that could keep serving.
            return self.removed(name);
        }
        app.missing = Some(why);
        let file = app.file.display();
        tracing::error!(
            app = %name, %file,
            "its file is missing and it keeps serving: {why}; restore the file, or run `imperium forget {name}`"
        );
    }

    /// Why the file of an app from an earlier emperord is missing. None if it was deleted.
    pub(super) fn missing_since_before(&self, name: &VassalName, files: usize) -> Option<Missing> {
        let app = self.apps.get(name)?;
        if app.has_no_process() {
            return None;
        }
        let is_another =
            self.state.folder().is_some_and(|it| Some(it) != FolderIdentity::of(&self.config.vassals));
        let serving = self.apps.values().filter(|it| !it.has_no_process()).count();
        match files == 0 && serving >= 2 {
            _ if is_another => Some(Missing::Replaced),
            true => Some(Missing::Emptied),
            false => self.state.missing(name),
        }
    }

    /// Stops these apps, or all whose files are missing if `names` is empty. Returns their names.
    pub(super) fn forget(&mut self, names: &[VassalName]) -> Result<Vec<VassalName>, AdminError> {
        if !matches!(self.shutdown, Shutdown::None) {
            return Err(AdminError::ShuttingDown);
        }
        for name in names {
            let Some(app) = self.apps.get(name) else {
                return Err(AdminError::NoSuchApp { app: name.clone(), known: self.known() });
            };
            if app.missing.is_none() {
                return Err(AdminError::NotMissing { app: name.clone(), file: app.file.clone() });
            }
        }
        let missing = self.apps.values().filter(|it| it.missing.is_some()).map(|it| it.name.clone());
        let forgotten = if names.is_empty() { missing.collect() } else { names.to_vec() };
        for name in &forgotten {
            self.removed(name);
        }
        Ok(forgotten)
    }
}

impl App {
    /// Its file exists, whether valid or not.
    pub(super) fn is_there(&mut self) {
        if self.missing.take().is_some() {
            tracing::info!(app = %self.name, "its file is back");
        }
    }

    pub(super) fn missing_notice(&self) -> Option<String> {
        let (why, file, name) = (self.missing?, self.file.display(), &self.name);
        Some(format!(
            "{file} is missing: {why}; it keeps serving: restore the file, or run `imperium forget {name}`"
        ))
    }
}
