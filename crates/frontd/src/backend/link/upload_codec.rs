//! Encodes a request body that may break off, so that the worker can tell its part from the whole.
//!
//! A call whose stream of messages ends is complete, and tonic's servers take one that is cancelled for complete, too. An
//! error of the encoder resets the call with another code, which they report as an error.

use api::runner::{ExchangeRequest, ExchangeResponse};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A request body won't be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenOff;

/// The codec of an `Exchange` call that is reset if the request's body breaks off.
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadCodec;

impl Codec for UploadCodec {
    type Encode = Result<ExchangeRequest, BrokenOff>;
    type Decode = ExchangeResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for UploadCodec {
    type Item = Result<ExchangeRequest, BrokenOff>;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let message = item.map_err(|BrokenOff| Status::aborted("the request body broke off"))?;
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for UploadCodec {
    type Item = ExchangeResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ExchangeResponse>, Status> {
        let message = ExchangeResponse::decode(buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
