//! Bodies that don't fit into a message: one gRPC call each, with HTTP/2's flow control.

use api::runner::runner_service_client::RunnerServiceClient;
use api::runner::{ExchangeRequest, ExchangeResponse, Start, exchange_request};
use bytes::Bytes;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Opens the calls for the exchanges of one link.
#[derive(Debug)]
pub(crate) struct Bodies {
    stream: u64,
    client: RunnerServiceClient<Channel>,
}

impl Bodies {
    pub(super) fn new(stream: u64, client: RunnerServiceClient<Channel>) -> Self {
        Self { stream, client }
    }

    /// Opens the call of an exchange, which sends the request body and receives the response body.
    ///
    /// # Errors
    ///
    /// Returns an error if the worker is gone or doesn't know the exchange.
    pub(crate) async fn open(
        &self,
        id: u64,
        upload: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<ExchangeResponse>, Status> {
        let start = exchange_request::Message::Start(Start { stream: self.stream, id });
        let messages = tokio_stream::once(start).chain(upload.map(exchange_request::Message::Chunk));
        let requests = messages.map(|message| ExchangeRequest { message: Some(message) });
        Ok(self.client.clone().exchange(requests).await?.into_inner())
    }
}
