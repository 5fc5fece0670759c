//! The bodies of requests.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;

/// The body of a request: bytes in memory, or a stream.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// An empty body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body in memory.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body in memory, sent in chunks without an announced length.
pub fn in_pieces(bytes: &Bytes, piece: usize) -> Body {
    let starts = (0..bytes.len()).step_by(piece.max(1));
    let frames: Vec<_> =
        starts.map(|it| Ok(Frame::data(bytes.slice(it..bytes.len().min(it + piece))))).collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}
