//! Response bodies, from whatever source.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};

use super::COUNTED;
use super::cut::{Cutter, DelayedError};
use super::file::FileBody;
use super::spool::SpoolReader;
use super::waiting;
use crate::limits::quota::Quota;

/// Chunk size for hyper over HTTP/2: one frame.
const FRAME: usize = 16 * 1024;

/// The end of a body that is split into frames is a chunk of its own, of this size. Once hyper has queued the
/// last chunk, only the connection watches whether the client still reads.
const TAIL: usize = 1024;

/// The body of a response.
#[derive(Debug)]
pub(crate) struct Body {
    source: Source,
    /// Data that the source returned and hyper hasn't received yet.
    rest: Bytes,
    delivery: Delivery,
}

#[derive(Debug)]
enum Source {
    Full(Bytes),
    Spooled(DelayedError<SpoolReader>),
    File(FileBody),
}

/// How the data is passed to hyper.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    Whole,
    Frames,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// A body that is in memory.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full(bytes))
    }

    /// A body that a worker streams.
    pub(crate) fn spooled(reader: SpoolReader, cutter: Cutter) -> Self {
        Self::of(Source::Spooled(DelayedError::new(reader, cutter)))
    }

    /// A static file.
    pub(crate) fn file(file: FileBody) -> Self {
        Self::of(Source::File(file))
    }

    fn of(source: Source) -> Self {
        Self { source, rest: Bytes::new(), delivery: Delivery::Whole }
    }

    /// Prepares the body for a client, whose waiting data counts against `memory`.
    pub(crate) fn to(mut self, version: Version, memory: &Arc<Quota>) -> Self {
        if version == Version::HTTP_2 {
            self.delivery = Delivery::Frames;
        }
        match &mut self.source {
            Source::Full(bytes) if bytes.len() > COUNTED => *bytes = memory.count(std::mem::take(bytes)),
            Source::File(file) => file.count_in(memory),
            Source::Full(_) | Source::Spooled(_) => {}
        }
        self
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Spooled(reader) => Pin::new(reader).poll_frame(cx),
            Self::File(file) => Pin::new(file).poll_frame(cx),
        }
    }

    /// Whether the source failed, and the client still has to receive what came before.
    fn is_cut(&self) -> bool {
        matches!(self, Self::Spooled(reader) if reader.is_cut())
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Spooled(_) => false,
            Self::File(file) => file.is_end_stream(),
        }
    }

    /// Whether the data that was returned last may be the end.
    fn may_have_ended(&self) -> bool {
        matches!(self, Self::Spooled(_)) || self.is_end_stream()
    }

    /// The remaining bytes, if known.
    fn left(&self) -> Option<u64> {
        match self {
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Spooled(_) => None,
            Self::File(file) => file.size_hint().exact(),
        }
    }
}

impl Delivery {
    /// Splits off the next chunk of `rest`, which isn't empty. `is_last` says that nothing may follow `rest`.
    fn piece(self, rest: &mut Bytes, is_last: bool) -> Bytes {
        match (self, rest.len()) {
            (Self::Whole, len) | (Self::Frames, len @ ..=TAIL) => rest.split_to(len),
            (Self::Frames, len @ ..=FRAME) if is_last => rest.split_to(len - TAIL),
            (Self::Frames, len) => rest.split_to(len.min(FRAME)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { source, rest, delivery, .. } = &mut *self;
        if rest.is_empty() {
            match source.poll(cx) {
                Poll::Pending => {
                    if !source.is_cut() {
                        waiting::wait_for_server();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
            }
        }
        waiting::wait_for_client();
        Poll::Ready(Some(Ok(Frame::data(delivery.piece(rest, source.may_have_ended())))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.source.left().map(|it| it + self.rest.len() as u64);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn over_http_2_a_body_is_split_into_frames_and_counts_until_it_is_sent() {
        let memory = Quota::new(1 << 20);
        for (size, expected) in [
            (0, vec![]),
            (1, vec![1]),
            (1024, vec![1024]),
            (1025, vec![1, 1024]),
            (FRAME, vec![FRAME - TAIL, TAIL]),
            (FRAME + 1, vec![FRAME, 1]),
            (40_000, vec![FRAME, FRAME, 40_000 - 2 * FRAME - TAIL, TAIL]),
        ] {
            let mut body = Body::full(vec![b'a'; size].into()).to(Version::HTTP_2, &memory);
            assert_eq!(body.size_hint().exact(), Some(size as u64));
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                frames.push(frame.unwrap().into_data().unwrap());
                assert_eq!(body.is_end_stream(), frames.iter().map(Bytes::len).sum::<usize>() == size);
            }
            assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), expected, "{size}");
            drop(body);
            assert_eq!(memory.used(), if size > COUNTED { size as u64 } else { 0 });
            drop(frames);
            assert_eq!(memory.used(), 0);
        }
        let mut body = Body::full(vec![b'a'; 40_000].into()).to(Version::HTTP_11, &memory);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 40_000);
    }
}
