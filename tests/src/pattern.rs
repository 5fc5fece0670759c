//! Bodies whose every byte follows from its place, as the Flask app's `/stream` makes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use crate::client::Body;

const BLOCK: usize = 65_536;

/// Block after block, each its number in eight bytes, big-endian, and then the same pattern.
pub struct Pattern {
    left: u64,
    number: u64,
}

impl Pattern {
    /// So many bytes.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        Self { left: bytes, number: 0 }
    }

    /// Its SHA-256 in hexadecimal.
    #[must_use]
    pub fn sha256(self) -> String {
        let mut digest = Sha256::new();
        self.for_each(|block| digest.update(block));
        format!("{:x}", digest.finalize())
    }

    /// As the body of a request, of a length that the server is told beforehand.
    #[must_use]
    pub fn sized(self) -> Body {
        Sized(self).boxed()
    }

    /// As the body of a request whose length shows only at its end.
    #[must_use]
    pub fn streamed(self) -> Body {
        StreamBody::new(futures_util::stream::iter(self.map(|block| Ok(Frame::data(block))))).boxed()
    }
}

impl Iterator for Pattern {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = self.left.min(BLOCK as u64);
        let mut block: Vec<u8> = (0..BLOCK).map(|n| (n * 7 + (n >> 8)).to_le_bytes()[0]).collect();
        block[..8].copy_from_slice(&self.number.to_be_bytes());
        block.truncate(usize::try_from(length).unwrap_or(BLOCK));
        self.left -= length;
        self.number += 1;
        (length > 0).then(|| block.into())
    }
}

struct Sized(Pattern);

impl hyper::body::Body for Sized {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.next().map(|block| Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.left)
    }
}

/// What a body was, once it was read to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Reads a response's body, holding no more than a piece of it.
///
/// # Errors
/// When it was cut.
pub async fn read(mut body: hyper::body::Incoming) -> anyhow::Result<Read> {
    let (mut bytes, mut digest) = (0, Sha256::new());
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame?.into_data() {
            bytes += data.len() as u64;
            digest.update(&data);
        }
    }
    Ok(Read { bytes, sha256: format!("{:x}", digest.finalize()) })
}

/// The SHA-256 of bytes at hand, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
