//! A complete request body, which can be read again for each try.

use std::error::Error;
use std::mem;
use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use super::file::SpoolFile;
use super::{Account, SpoolError};
use crate::limits::quota::Held;

/// Maximum size of a body in memory, in bytes. Larger ones are in a file.
pub(crate) const INLINE_MAX: usize = 64 * 1024;
/// Bytes per read.
const BLOCK: usize = 256 * 1024;
/// Maximum size of the chunks that a reader returns, in bytes.
const CHUNK: usize = 64 * 1024;
/// A body counts against the client's memory once more than this is in memory, in bytes.
pub(crate) const COUNTED: usize = 16 * 1024;

/// A complete body.
#[derive(Clone, Debug)]
pub(crate) enum SpooledBody {
    /// Up to [`INLINE_MAX`] bytes.
    Inline(Bytes),
    /// A larger body.
    File(SpooledFile),
}

/// A complete body in a file, which is deleted with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct SpooledFile {
    file: SpoolFile,
    len: u64,
}

/// Why the body couldn't be received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolBodyError<E: Error + 'static> {
    /// 413: the client announced or sent more than it may.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// The client left, or its framing is broken.
    #[error("read the request body: {0}")]
    Client(#[source] E),
    /// Not the client's fault.
    #[error(transparent)]
    Disk(#[from] SpoolError),
}

impl SpooledBody {
    /// Reads `body` to its end and drops trailers. `account` is only evaluated if more than a little has to
    /// wait in memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the body is longer than `limit` bytes, or announces to be, if it breaks off, or if
    /// the disk fails.
    pub(crate) async fn read<B>(
        mut body: B,
        limit: u64,
        account: impl Deref<Target = Account>,
    ) -> Result<Self, SpoolBodyError<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error + 'static,
    {
        if body.size_hint().lower() > limit {
            return Err(SpoolBodyError::TooLarge { limit });
        }
        let mut sink = Sink::new(account);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(SpoolBodyError::Client)?.into_data() else { continue };
            if sink.len().saturating_add(data.len() as u64) > limit {
                return Err(SpoolBodyError::TooLarge { limit });
            }
            sink.push(data).await?;
        }
        Ok(sink.finish().await?)
    }

    /// In bytes.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Inline(data) => data.len() as u64,
            Self::File(spooled) => spooled.len,
        }
    }

    /// Whether the body is empty.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Creates a reader that starts at `offset`, in bytes.
    #[must_use]
    pub(crate) fn reader_at(&self, offset: u64) -> SpooledReader {
        let offset = offset.min(self.len());
        match self {
            Self::Inline(data) => {
                let offset = usize::try_from(offset).unwrap_or(data.len());
                SpooledReader { block: data.slice(offset..), rest: None }
            }
            Self::File(spooled) => {
                SpooledReader { block: Bytes::new(), rest: Some((spooled.clone(), offset)) }
            }
        }
    }
}

/// Reads a body in chunks of 64 KiB.
#[derive(Debug)]
pub(crate) struct SpooledReader {
    block: Bytes,
    /// The file, and the offset of the next read.
    rest: Option<(SpooledFile, u64)>,
}

impl SpooledReader {
    /// Returns the next chunk, or `None` at the end. Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns an error if the disk fails.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        if self.block.is_empty() {
            self.block = self.next_block().await?;
        }
        let chunk = self.block.split_to(self.block.len().min(CHUNK));
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    async fn next_block(&mut self) -> Result<Bytes, SpoolError> {
        let Some((spooled, at)) = &mut self.rest else { return Ok(Bytes::new()) };
        let len = usize::try_from(spooled.len - *at).map_or(BLOCK, |left| left.min(BLOCK));
        if len == 0 {
            return Ok(Bytes::new());
        }
        let read = spooled.file.read(*at, len).await;
        let block = spooled.file.outcome(read)?;
        *at += len as u64;
        Ok(block)
    }
}

/// Collects a body: in memory at first, in a file once it is too large.
struct Sink<A> {
    account: A,
    /// The first waiting frame, not copied: most bodies have only one.
    first: Bytes,
    /// The waiting data once there is a second frame. It is copied, because a frame of one byte can pin far
    /// more memory.
    joined: BytesMut,
    file: Option<SpooledFile>,
    held: Option<Held>,
}

impl<A: Deref<Target = Account>> Sink<A> {
    fn new(account: A) -> Self {
        Self { account, first: Bytes::new(), joined: BytesMut::new(), file: None, held: None }
    }

    fn len(&self) -> u64 {
        self.waiting() as u64 + self.file.as_ref().map_or(0, |spooled| spooled.len)
    }

    /// Bytes in memory.
    fn waiting(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    async fn push(&mut self, data: Bytes) -> Result<(), SpoolError> {
        if self.waiting() == 0 {
            self.first = data;
        } else {
            self.joined.extend_from_slice(&mem::take(&mut self.first));
            self.joined.extend_from_slice(&data);
        }
        if self.waiting() > INLINE_MAX {
            self.write().await?;
        } else if self.waiting() > COUNTED && self.held.is_none() {
            self.held = Some(self.account.memory.hold(INLINE_MAX as u64));
        }
        Ok(())
    }

    /// Takes all waiting data.
    fn gather(&mut self) -> Bytes {
        if self.joined.is_empty() { mem::take(&mut self.first) } else { self.joined.split().freeze() }
    }

    async fn write(&mut self) -> Result<(), SpoolError> {
        let data = self.gather();
        let spooled = match &mut self.file {
            Some(spooled) => spooled,
            none => none.insert(SpooledFile { file: SpoolFile::create(&self.account).await?, len: 0 }),
        };
        let at = spooled.len;
        if spooled.file.room(at, data.len()) < data.len() {
            return Err(self.account.full(spooled.file.hint()));
        }
        spooled.len += data.len() as u64;
        spooled.file.write(at, data).await
    }

    async fn finish(mut self) -> Result<SpooledBody, SpoolError> {
        if self.file.is_none() && self.waiting() <= INLINE_MAX {
            return Ok(SpooledBody::Inline(self.gather()));
        }
        if self.waiting() > 0 {
            self.write().await?;
        }
        Ok(self.file.map_or(SpooledBody::Inline(Bytes::new()), SpooledBody::File))
    }
}

#[cfg(test)]
mod tests;
