//! Sends requests over a kept-alive connection, which is reopened when the server has closed it.

use anyhow::Context as _;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::client::{Body, Client};
use crate::connection::{Connection, SendError};

/// A client's current connection.
pub struct KeepAlive {
    client: Client,
    connection: Option<Connection>,
    opened: u64,
}

impl KeepAlive {
    /// Creates a client without opening a connection.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, connection: None, opened: 0 }
    }

    /// The number of connections that were opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Closes the connection. The next request opens another one.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Sends a request, and waits for the head of its response. If the server closed the connection before
    /// the request was sent, sends it again.
    ///
    /// # Errors
    /// If nothing is listening, or the connection broke after the request was sent.
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
