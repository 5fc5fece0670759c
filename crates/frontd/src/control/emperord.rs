//! Receives the routing table from emperord, and reconnects when emperord restarts.

use std::path::PathBuf;

use api::routes::routes_service_client::RoutesServiceClient;
use api::routes::{WatchRequest, WatchResponse};
use daemon::backoff::Backoff;
use tonic::{Status, Streaming};
use tracing::debug;

use super::routes::RouteSource;

/// The emperord that listens on a unix socket.
#[derive(Debug)]
pub(crate) struct Emperord {
    socket: PathBuf,
    backoff: Backoff,
    /// `None` while there is no connection.
    updates: Option<Streaming<WatchResponse>>,
}

impl Emperord {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, backoff: Backoff::new(), updates: None }
    }

    /// Receives the next update, or `None` if emperord ended the stream.
    async fn receive(&mut self) -> Result<Option<WatchResponse>, Status> {
        let updates = match &mut self.updates {
            Some(updates) => updates,
            None => {
                let mut client = RoutesServiceClient::new(daemon::uds::channel(&self.socket, |it| it));
                let front = format!("frontd-{}", std::process::id());
                self.updates.insert(client.watch(WatchRequest { front }).await?.into_inner())
            }
        };
        updates.message().await
    }
}

impl RouteSource for Emperord {
    async fn next(&mut self) -> WatchResponse {
        loop {
            match self.receive().await {
                Ok(Some(update)) => {
                    self.backoff.reset();
                    return update;
                }
                Ok(None) => debug!("emperord exited: serving from the last routing table"),
                Err(status) => debug!(reason = status.message(), "emperord is away"),
            }
            self.updates = None;
            self.backoff.wait().await;
        }
    }
}
