//! Bodies in which each byte is determined by its offset, like those of the Flask app's `/stream`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use crate::body::Body;

const BLOCK: usize = 65_536;

/// A sequence of blocks, each starting with its number in eight bytes, big-endian, followed by the same
/// pattern.
pub struct Pattern {
    left: u64,
    number: u64,
}

impl Pattern {
    /// A pattern with that many bytes.
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

    /// Converts it to a request body with an announced length.
    #[must_use]
    pub fn sized(self) -> Body {
        Sized(self).boxed()
    }

    /// Converts it to a request body without an announced length.
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

/// Length and hash of a body that was read completely.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Reads a response's body chunk by chunk.
///
/// # Errors
/// If it was cut off.
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

/// The SHA-256 of bytes, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
