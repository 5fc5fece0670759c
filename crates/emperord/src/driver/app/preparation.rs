//! What a generation's starts wait for.

use super::{App, Tenure};
use crate::messages::LookupId;

/// A pending lookup of what the starts of a generation need. Without any start that waits for it, it is still
/// used for those that come before its result.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) lookup: LookupId,
    /// Whether the template waits for it.
    pub(crate) for_template: bool,
}

impl App {
    /// The number of workers that wait for a preparation that takes long.
    pub(crate) fn slowly_prepared(&self) -> usize {
        let is_slow = |generation: &u64| {
            self.preparations.get(generation).is_some_and(|it| self.slow_lookups.contains_key(&it.lookup))
        };
        let waits = |it: &&Tenure| matches!(it, Tenure::Preparing { generation } if is_slow(generation));
        self.tenures.values().filter(waits).count()
    }
}
