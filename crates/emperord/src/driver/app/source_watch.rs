//! The watch of an app's source files.

use std::sync::Arc;

use tokio::task::AbortHandle;
use vassal::Vassal;

use super::App;
use crate::messages::WatchId;
use crate::sources::Sources;

/// A watch of an app's source files. It ends when this is dropped.
pub(crate) struct SourceWatch {
    pub(crate) id: WatchId,
    pub(crate) purpose: Purpose,
    /// The configuration that names the files.
    pub(crate) vassal: Arc<Vassal>,
    /// Why some changes are noticed late or never.
    pub(crate) problem: Option<String>,
    pub(crate) task: AbortHandle,
}

/// The purpose of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The app's file asks for a reload after each change.
    Reload,
    /// The app can't start before a change.
    Retry,
}

impl App {
    pub(crate) fn wanted_watch(&self) -> Option<(&Arc<Vassal>, Purpose)> {
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
    pub(crate) fn is_watched_as_wanted(&mut self) -> bool {
        let Some((vassal, purpose)) = self.wanted_watch() else { return self.source_watch.is_none() };
        let vassal = Arc::clone(vassal);
        let Some(watch) = self.source_watch.as_mut().filter(|it| it.purpose == purpose) else { return false };
        if !Arc::ptr_eq(&watch.vassal, &vassal) {
            if Sources::of(&watch.vassal) != Sources::of(&vassal) {
                return false;
            }
            watch.vassal = vassal;
        }
        true
    }
}

impl Drop for SourceWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
