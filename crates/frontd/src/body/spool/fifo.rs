//! A bounded FIFO of bytes from a worker to a client: memory, then a file, then backpressure.
//!
//! ```text
//!   push ──▶ tail (memory) ──spill──▶ file (a ring) ──read──▶ head (memory) ──▶ client
//!     └──────────── while nothing is in tail or file ──────────▶┘
//! ```
//! A chunk is never held back: at each stage, the client gets whatever is there. The file is released each
//! time the client has caught up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use parking_lot::Mutex;

use super::file::{Reading, SpoolFile};
use super::{Account, SpoolError};
use crate::limits::quota::{Held, Quota};

/// Bytes per read or write.
const BLOCK: usize = 64 * 1024;

/// How much a channel may hold before its writer has to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelLimits {
    /// Approximate bytes in memory: the chunk that crosses the limit is still accepted.
    pub(crate) memory: usize,
    /// Bytes in the file.
    pub(crate) disk: u64,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self { memory: 256 * 1024, disk: 1024 * 1024 * 1024 }
    }
}

/// Creates a channel whose data is charged to `account`.
#[must_use]
pub(crate) fn channel(account: Account, limits: ChannelLimits) -> (SpoolWriter, SpoolReader) {
    let shared = Arc::new(Mutex::new(State::new(Arc::clone(&account.memory))));
    (SpoolWriter { shared: shared.clone(), account, limits }, SpoolReader { shared, reading: None })
}

/// The worker's end. If it is dropped without [`SpoolWriter::finish`], the response is aborted.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    shared: Arc<Mutex<State>>,
    account: Account,
    limits: ChannelLimits,
}

/// The client's end: a response body.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    shared: Arc<Mutex<State>>,
    reading: Option<(SpoolFile, Reading)>,
}

/// Why a chunk wasn't accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// The client has left.
    #[error("the client went away")]
    Closed,
    /// The disk failed, so the response is aborted.
    #[error(transparent)]
    Disk(#[from] SpoolError),
}

/// Why a response ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// The worker went away.
    #[error("the response was aborted")]
    BrokenOff,
    /// The spooled data couldn't be read.
    #[error(transparent)]
    Disk(#[from] SpoolError),
}

#[derive(Debug)]
struct State {
    /// Data in memory counts against the client's connection.
    memory: Arc<Quota>,
    /// How many bytes are counted.
    counted: u64,
    head: VecDeque<Bytes>,
    head_len: usize,
    ring: Option<Ring>,
    /// Whether data is being moved from the tail to the file.
    spilling: bool,
    tail: BytesMut,
    /// Follow the data.
    trailers: Option<Box<HeaderMap>>,
    writer: WriterState,
    reader_gone: bool,
    /// How often the reader has read from the file.
    reads: u64,
    /// The reader, if it waits for a chunk.
    reader_waker: Option<Waker>,
    /// The writer, if it waits for room or for the reader to leave.
    writer_waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriterState {
    Open,
    Finished,
    Cut,
}

/// The unread part of the file, which is used as a ring buffer.
#[derive(Debug)]
struct Ring {
    file: SpoolFile,
    size: u64,
    start: u64,
    len: u64,
}

impl SpoolWriter {
    /// Adds the next chunk. Waits while the channel is full. Not cancel safe: if this fails or is dropped
    /// while it waits, the response can only be aborted.
    ///
    /// # Errors
    ///
    /// Returns an error if the client has left or the disk fails.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> Result<(), PushError> {
        let Some(tail) = self.buffer(chunk)? else { return Ok(()) };
        self.spill(tail).await?;
        let mut state = self.shared.lock();
        state.spilling = false;
        state.release_empty_file();
        state.wake_reader();
        Ok(())
    }

    /// Waits until the client has left.
    pub(crate) async fn closed(&self) {
        std::future::poll_fn(|cx| self.shared.lock().poll_closed(cx)).await;
    }

    /// Sets the trailers of the response, which follow its data.
    pub(crate) fn add_trailers(&self, trailers: HeaderMap) {
        self.shared.lock().trailers = Some(Box::new(trailers)).filter(|it| !it.is_empty());
    }

    /// Marks the response as complete.
    pub(crate) fn finish(self) {
        let mut state = self.shared.lock();
        if !state.spilling {
            state.writer = WriterState::Finished;
        }
    }

    /// Adds a chunk to memory. Returns the data that must be written to the file now.
    fn buffer(&self, chunk: Bytes) -> Result<Option<Bytes>, PushError> {
        let mut state = self.shared.lock();
        if state.reader_gone {
            return Err(PushError::Closed);
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        if state.ring.is_none()
            && state.tail.is_empty()
            && state.head_len < self.limits.memory.saturating_sub(2 * BLOCK)
        {
            state.push_head(chunk);
        } else {
            state.tail.extend_from_slice(&chunk);
        }
        state.wake_reader();
        state.spilling = state.tail.len() >= BLOCK;
        let spilled = state.spilling.then(|| state.tail.split().freeze());
        state.count();
        Ok(spilled)
    }

    /// Writes all of `data` to the file, as room becomes available.
    async fn spill(&self, mut data: Bytes) -> Result<(), PushError> {
        if !self.open().await? {
            self.shared.lock().push_head(data);
            return Ok(());
        }
        while !data.is_empty() {
            let (file, at, len) = self.room(data.len()).await?;
            let part = data.split_to(data.len().min(len));
            let len = part.len() as u64;
            file.write(at, part).await?;
            let mut state = self.shared.lock();
            if let Some(ring) = &mut state.ring {
                ring.len += len;
            }
            state.wake_reader();
        }
        Ok(())
    }

    /// Waits for room in the file, for up to `wanted` bytes. The reader makes room. If a limit is reached, so
    /// does everyone else whose usage counts against it.
    async fn room(&self, wanted: usize) -> Result<(SpoolFile, u64, usize), PushError> {
        loop {
            let (room, reads) = self.shared.lock().room(wanted)?;
            let read = std::future::poll_fn(|cx| self.shared.lock().poll_read_since(reads, cx));
            match room {
                Room::Free(file, at, len) => return Ok((file, at, len)),
                Room::Unread => read.await,
                Room::Limited(file) => tokio::select! {
                    biased;
                    () = read => {}
                    () = file.freed() => {}
                },
            }
        }
    }

    /// Creates the file if there is none. The reader doesn't release it during a spill. Returns `false` if
    /// the reader caught up before a file slot became free, so that none is needed.
    async fn open(&self) -> Result<bool, PushError> {
        if self.shared.lock().ring.is_some() {
            return Ok(true);
        }
        let slot = tokio::select! {
            biased;
            slot = self.slot() => slot,
            caught_up = std::future::poll_fn(|cx| self.shared.lock().poll_caught_up(cx)) => {
                return caught_up.map(|()| false);
            }
        };
        let file = SpoolFile::create_in(&self.account, slot).await?;
        let size = self.limits.disk.max(BLOCK as u64);
        self.shared.lock().ring = Some(Ring { file, size, start: 0, len: 0 });
        Ok(true)
    }

    /// Waits for a slot among the open files. Another shard may take one that was free a moment ago.
    async fn slot(&self) -> Held {
        let files = &self.account.client.files;
        loop {
            if let Some(slot) = files.take_one() {
                return slot;
            }
            files.room().await;
        }
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.writer == WriterState::Open {
            state.writer = WriterState::Cut;
        }
        state.wake_reader();
    }
}

impl State {
    fn new(memory: Arc<Quota>) -> Self {
        Self {
            memory,
            counted: 0,
            head: VecDeque::new(),
            head_len: 0,
            ring: None,
            spilling: false,
            tail: BytesMut::new(),
            trailers: None,
            writer: WriterState::Open,
            reader_gone: false,
            reads: 0,
            reader_waker: None,
            writer_waker: None,
        }
    }

    /// Adds a chunk to the head.
    fn push_head(&mut self, chunk: Bytes) {
        self.head_len += chunk.len();
        self.head.push_back(chunk);
        self.count();
    }

    /// Updates the count of bytes in memory.
    fn count(&mut self) {
        let now = (self.head_len + self.tail.len()) as u64;
        if now == self.counted {
            return;
        }
        match now.checked_sub(self.counted) {
            Some(more) => self.memory.charge(more),
            None => self.memory.give(self.counted - now),
        }
        self.counted = now;
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader_waker.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer_waker.take() {
            writer.wake();
        }
    }

    fn poll_closed(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.reader_gone {
            return Poll::Ready(());
        }
        self.writer_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready once the reader has taken everything except the data that is being spilled.
    fn poll_caught_up(&mut self, cx: &Context<'_>) -> Poll<Result<(), PushError>> {
        if self.head.is_empty() && !self.reader_gone {
            return Poll::Ready(Ok(()));
        }
        self.poll_closed(cx).map(|()| Err(PushError::Closed))
    }

    /// Ready once the reader has read from the file again, or has left.
    fn poll_read_since(&mut self, reads: u64, cx: &Context<'_>) -> Poll<()> {
        if self.reads == reads { self.poll_closed(cx) } else { Poll::Ready(()) }
    }

    /// Whether the file has room for some of the wanted bytes. Also returns how often the file has been read.
    fn room(&mut self, wanted: usize) -> Result<(Room, u64), PushError> {
        let Some(ring) = self.ring.as_mut().filter(|_| !self.reader_gone) else {
            return Err(PushError::Closed);
        };
        if ring.len == 0 {
            // The beginning of the file always has some room, even if the folder is full.
            ring.start = 0;
        }
        let room = match ring.room(wanted) {
            (_, 0) => Room::Unread,
            (at, len) => match ring.file.room(at, len) {
                0 => Room::Limited(ring.file.clone()),
                len => Room::Free(ring.file.clone(), at, len),
            },
        };
        Ok((room, self.reads))
    }

    /// What the reader does next.
    fn next(&mut self, cx: &Context<'_>) -> Next {
        let next = self.take(cx);
        self.count();
        next
    }

    fn take(&mut self, cx: &Context<'_>) -> Next {
        if let Some(chunk) = self.head.pop_front() {
            self.head_len -= chunk.len();
            if self.head.is_empty() && self.spilling && self.ring.is_none() {
                self.wake_writer();
            }
            return Next::Chunk(chunk);
        }
        if let Some(ring) = self.ring.as_ref().filter(|ring| ring.len > 0) {
            let (at, len) = ring.filled();
            return Next::Read(ring.file.clone(), at, len);
        }
        if !self.spilling && !self.tail.is_empty() {
            return Next::Chunk(self.tail.split().freeze());
        }
        match self.writer {
            WriterState::Finished => Next::End(Ok(self.trailers.take())),
            WriterState::Cut => Next::End(Err(Cut::BrokenOff)),
            WriterState::Open => {
                self.reader_waker = Some(cx.waker().clone());
                Next::Wait
            }
        }
    }

    /// Releases an empty file, which would only occupy disk blocks.
    fn release_empty_file(&mut self) {
        if !self.spilling && self.ring.as_ref().is_some_and(|ring| ring.len == 0) {
            self.ring = None;
        }
    }

    /// Records that `len` bytes were read from the file.
    fn record_read(&mut self, len: usize) {
        let Some(ring) = &mut self.ring else { return };
        self.reads += 1;
        ring.start = (ring.start + len as u64) % ring.size;
        ring.len -= len as u64;
        self.release_empty_file();
        self.wake_writer();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.memory.give(self.counted);
    }
}

/// Whether the file can be written.
enum Room {
    /// At this offset, this many contiguous bytes.
    Free(SpoolFile, u64, usize),
    /// The file has its maximum size and is unread.
    Unread,
    /// A limit of the app, of the client's address or in total is reached.
    Limited(SpoolFile),
}

enum Next {
    Chunk(Bytes),
    /// Read from this file, at this offset, this many bytes.
    Read(SpoolFile, u64, usize),
    Wait,
    End(Result<Option<Box<HeaderMap>>, Cut>),
}

impl Ring {
    /// The offset and number of contiguous bytes that may be written, up to `wanted`.
    fn room(&self, wanted: usize) -> (u64, usize) {
        let at = (self.start + self.len) % self.size;
        let free = (self.size - self.len).min(self.size - at);
        (at, usize::try_from(free).map_or(wanted, |free| free.min(wanted)))
    }

    /// The offset and number of contiguous bytes to read.
    fn filled(&self) -> (u64, usize) {
        let len = self.len.min(self.size - self.start);
        (self.start, usize::try_from(len).map_or(BLOCK, |len| len.min(BLOCK)))
    }
}

impl SpoolReader {
    /// Returns the next chunk, or the trailers once, or `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some((file, reading)) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(cx));
                let read = file.outcome(read);
                self.reading = None;
                if let Ok(data) = &read {
                    self.shared.lock().record_read(data.len());
                }
                return Poll::Ready(Some(read.map(Frame::data).map_err(Cut::from)));
            }
            let next = self.shared.lock().next(cx);
            match next {
                Next::Chunk(chunk) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Next::Read(file, at, len) => self.reading = Some((file.clone(), file.read(at, len))),
                Next::Wait => return Poll::Pending,
                Next::End(end) => {
                    return Poll::Ready(end.map(|it| it.map(|it| Frame::trailers(*it))).transpose());
                }
            }
        }
    }
}

impl Body for SpoolReader {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.poll_next(cx)
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.reader_gone = true;
        state.ring = None;
        state.wake_writer();
    }
}

#[cfg(test)]
mod tests;
