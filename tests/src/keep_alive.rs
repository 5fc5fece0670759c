//! One request after another over a connection that is kept, and opened again when the server has closed it.

use anyhow::Context as _;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::client::{Body, Client};
use crate::connection::{Connection, SendError};

/// A client's connection, whichever it is at the moment.
pub struct KeepAlive {
    client: Client,
    connection: Option<Connection>,
    opened: u64,
}

impl KeepAlive {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, connection: None, opened: 0 }
    }

    /// How many connections were opened: more than one, when some had to be opened again.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// The next request goes over another connection.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Sends a request, and waits for the head of its response. One that the server closed the connection before
    /// is sent again: it was never sent.
    ///
    /// # Errors
    /// When nobody listens, or the connection broke after the request was sent.
    pub async fn send(&mut self, mut request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        loop {
            match self.connected().await?.send(request).await {
                Ok(response) => return Ok(response),
                Err(SendError::NotSent(unsent)) => request = *unsent,
                Err(error @ (SendError::Refused(_) | SendError::Lost(_))) => return Err(error.into()),
            }
            self.connection = None;
        }
    }

    async fn connected(&mut self) -> anyhow::Result<&mut Connection> {
        if self.connection.as_ref().is_none_or(Connection::is_closed) {
            self.opened += 1;
            self.connection = Some(self.client.connect().await?);
        }
        self.connection.as_mut().context("a connection")
    }
}
