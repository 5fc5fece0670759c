//! Admits a request before its body is received.

use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

use super::{Isolation, Pool, Refused};
use crate::limits::clients::network;
use crate::limits::quota::{Held, Quota, Shares};

/// How many bodies one app receives at the same time. They occupy no worker, and the space they take has its
/// own limits (`spool`).
const UPLOADS: u64 = 2048;

/// How many of them one address may send.
pub(super) const UPLOADS_PER_CLIENT: u64 = UPLOADS / 4;

/// The bodies that are being received for one app.
#[derive(Debug)]
pub(super) struct Uploads {
    all: Arc<Quota>,
    clients: Shares<IpAddr, Quota>,
}

/// A body that is being received. Counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Upload(#[expect(dead_code, reason = "held until it is dropped")] Held);

impl Uploads {
    pub(super) fn new() -> Self {
        Self { all: Quota::new(UPLOADS), clients: Shares::new() }
    }

    fn begin(&self, client: IpAddr) -> Result<Upload, Refused> {
        let part = self.clients.of(network(client), || self.all.part(UPLOADS_PER_CLIENT));
        match part.take_one() {
            Some(held) => Ok(Upload(held)),
            None if part.is_used_up() => Err(Refused::TooManyUploadsOfClient),
            None => Err(Refused::TooManyUploads),
        }
    }
}

impl<L: Clone> Pool<L> {
    /// Admits a request of `client` whose body must be received before a worker is needed.
    ///
    /// # Errors
    ///
    /// Returns an error if the request would be refused if it asked for a worker now, or if too many bodies
    /// are being received.
    pub(crate) fn admit_upload(&self, client: IpAddr) -> Result<Upload, Refused> {
        let state = self.state.lock();
        let size = state.queue_size()?;
        if state.queue.len() >= size && !state.has_room(Isolation::Shared, Instant::now()) {
            return Err(Refused::Full);
        }
        drop(state);
        self.uploads.begin(client)
    }

    /// How many bodies are being received.
    #[cfg(test)]
    pub(crate) fn uploads(&self) -> u64 {
        self.uploads.all.used()
    }
}
