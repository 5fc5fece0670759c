//! The body of a response, wherever it comes from.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{io, mem};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::spool::SpoolReader;
use crate::static_files::FileBody;

/// What is sent to the client after the head.
#[derive(Debug)]
pub(crate) struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Bytes),
    Spooled(SpoolReader),
    File(FileBody),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// A body that is at hand.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(bytes))
    }

    /// A body that comes from a worker in pieces.
    pub(crate) fn spooled(reader: SpoolReader) -> Self {
        Self(Kind::Spooled(reader))
    }

    /// A file from disk.
    pub(crate) fn file(file: FileBody) -> Self {
        Self(Kind::File(file))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(mem::take(bytes))))),
            Kind::Spooled(reader) => Pin::new(reader).poll_frame(cx).map_err(io::Error::other),
            Kind::File(file) => Pin::new(file).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Spooled(_) => false,
            Kind::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Spooled(_) => SizeHint::default(),
            Kind::File(file) => file.size_hint(),
        }
    }
}
