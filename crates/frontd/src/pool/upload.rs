//! Admits a request before its body is read.

use std::sync::Arc;
use std::time::Instant;

use super::{Mode, Pool, Refused};

/// A request body that is being read, of one that was admitted; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Upload<L: Clone>(Arc<Pool<L>>);

impl<L: Clone> Pool<L> {
    /// Admits a request whose body is to be read before a worker is asked for. As many are read at once as could wait
    /// or be worked on.
    ///
    /// # Errors
    /// When the request would be refused if it asked for a worker now, or when too many bodies are being read.
    pub(crate) fn admit_upload(self: &Arc<Self>) -> Result<Upload<L>, Refused> {
        let mut state = self.state.lock();
        let size = state.queue_size()?;
        let is_full = state.queue.len() >= size && !state.has_room(Mode::Shared, Instant::now());
        let capacity: usize = state.members.iter().map(|it| it.capacity).sum();
        if is_full || state.uploads >= size.saturating_add(capacity) {
            return Err(Refused::Full);
        }
        state.uploads += 1;
        Ok(Upload(Arc::clone(self)))
    }
}

impl<L: Clone> Drop for Upload<L> {
    fn drop(&mut self) {
        self.0.state.lock().uploads -= 1;
    }
}
