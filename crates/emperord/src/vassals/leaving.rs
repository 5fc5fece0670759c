//! Files that are not there any more: deleted, or missing with all others or with their folder.
//!
//! A file that is deleted ends its app, and so does one of several, or the only one. It is not taken for deleted where
//! two or more files leave the folder without any together, or where the folder is another one than before: nobody
//! ends all apps in this way on purpose, while a file system that is unmounted, or a deployment that fails half-way, does.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use api::VassalName;
use tokio::time::Instant;

/// Removals that follow each other within this time are judged together.
const QUIET: Duration = Duration::from_millis(500);
/// How long they are gathered at most.
const LONGEST: Duration = Duration::from_secs(5);

/// Files that were found missing and are not judged yet.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    since: BTreeMap<VassalName, Instant>,
    last: Option<Instant>,
}

impl Leaving {
    /// Takes note of a file that is not there.
    pub(super) fn note(&mut self, name: VassalName, now: Instant) {
        if let Entry::Vacant(it) = self.since.entry(name) {
            it.insert(now);
            self.last = Some(now);
        }
    }

    /// A file is there after all.
    pub(super) fn is_back(&mut self, name: &VassalName) {
        self.since.remove(name);
    }

    /// When those that left are judged.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.since.values().min()?;
        Some((self.last? + QUIET).min(*first + LONGEST))
    }

    /// Those that left, to be judged.
    pub(super) fn take(&mut self) -> Vec<VassalName> {
        self.last = None;
        std::mem::take(&mut self.since).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_in_a_row_are_judged_together_and_not_forever() {
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
