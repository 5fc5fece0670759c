//! Bodies that don't fit into a message: one gRPC call each, with HTTP/2's flow control.

use api::runner::runner_service_client::RunnerServiceClient;
use api::runner::{ExchangeRequest, ExchangeResponse, Start, exchange_request};
use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio_stream::{Stream, StreamExt as _};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::upload_codec::{BrokenOff, UploadCodec};

/// Opens the calls for the exchanges of one link.
#[derive(Debug)]
pub(crate) struct Bodies {
    stream: u64,
    channel: Channel,
}

impl Bodies {
    pub(super) fn new(stream: u64, channel: Channel) -> Self {
        Self { stream, channel }
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
        let requests = tokio_stream::once(self.start(id)).chain(upload.map(chunk));
        Ok(RunnerServiceClient::new(self.channel.clone()).exchange(requests).await?.into_inner())
    }

    /// Like [`Self::open`], for a request body that may break off: then the call is reset, so that the worker
    /// doesn't take a part of the body for the whole.
    ///
    /// # Errors
    ///
    /// Returns an error if the worker is gone or doesn't know the exchange.
    pub(crate) async fn open_for_upload(
        &self,
        id: u64,
        upload: impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static,
    ) -> Result<Streaming<ExchangeResponse>, Status> {
        let requests = tokio_stream::once(Ok(self.start(id))).chain(upload.map(|it| it.map(chunk)));
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static("/imperium.runner.v1.RunnerService/Exchange");
        Ok(client.streaming(Request::new(requests), path, UploadCodec).await?.into_inner())
    }

    fn start(&self, id: u64) -> ExchangeRequest {
        ExchangeRequest { message: Some(exchange_request::Message::Start(Start { stream: self.stream, id })) }
    }
}

fn chunk(chunk: Bytes) -> ExchangeRequest {
    ExchangeRequest { message: Some(exchange_request::Message::Chunk(chunk)) }
}
