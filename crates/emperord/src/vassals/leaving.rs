//! Decides about files that no longer exist: they were deleted, or are missing together with all others or
//! with their folder.
//!
//! Deleting a file stops its app, also if it is the only one. Files don't count as deleted if two or more
//! leave the folder together and none remains, or if the folder itself was replaced: nobody stops all apps
//! like this on purpose, but unmounting a file system or a failed deployment does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use api::VassalName;
use tokio::time::Instant;

/// Removals that follow each other within this time are judged together.
const QUIET: Duration = Duration::from_millis(500);
/// The longest time that removals are collected.
const LONGEST: Duration = Duration::from_secs(5);

/// Files that no longer exist, and haven't been judged yet.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    since: BTreeMap<VassalName, Instant>,
    last: Option<Instant>,
}

impl Leaving {
    /// Records a file that doesn't exist.
    pub(super) fn note(&mut self, name: VassalName, now: Instant) {
        if let Entry::Vacant(it) = self.since.entry(name) {
            it.insert(now);
            self.last = Some(now);
        }
    }

    /// A file exists again.
    pub(super) fn is_back(&mut self, name: &VassalName) {
        self.since.remove(name);
    }

    /// When to judge the files that have left.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.since.values().min()?;
        Some((self.last? + QUIET).min(*first + LONGEST))
    }

    /// Takes the files that have left.
    pub(super) fn take(&mut self) -> Vec<VassalName> {
        self.last = None;
        std::mem::take(&mut self.since).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_removals_are_judged_together_within_a_limit() {
        let name = |number: u32| VassalName::parse(&format!("app{number}")).unwrap();
        let (began, mut leaving) = (Instant::now(), Leaving::default());
        assert_eq!(leaving.due(), None);
        leaving.note(name(1), began);
        leaving.note(name(1), began + QUIET);
        assert_eq!(leaving.due(), Some(began + QUIET));
        for number in 2..=30 {
            leaving.note(name(number), began + Duration::from_millis(400) * (number - 1));
        }
        assert_eq!(leaving.due(), Some(began + LONGEST));
        leaving.is_back(&name(7));
        assert_eq!(leaving.take().len(), 29);
        assert_eq!(leaving.due(), None);
    }
}
