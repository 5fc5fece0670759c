//! The content of a file, from memory or from disk.

use std::any::Any;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::COUNTED;
use crate::disk::{Disk, Job};
use crate::limits::quota::Quota;

/// Bytes per read.
const BLOCK: usize = 128 * 1024;

/// Bytes per read while half of the response memory is in use.
const SMALL_BLOCK: usize = 16 * 1024;

/// The body of a response. It never exceeds the announced length. If the file has shrunk meanwhile, the body
/// fails and the response is aborted.
#[derive(Debug)]
pub(crate) struct FileBody(Source);

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    Disk(Box<DiskReader>),
}

#[derive(Debug)]
struct DiskReader {
    file: Arc<DiskFile>,
    /// Kept as long as the open file: the guards of its descriptor, which responses share.
    _kept: Arc<dyn Any + Send + Sync>,
    left: Range<u64>,
    /// The quota for blocks in memory.
    memory: Option<Arc<Quota>>,
    /// The last block. Its buffer is reused once the client's connection has released it.
    sent: Bytes,
    /// A read on a disk thread, because the data wasn't in the page cache.
    reading: Option<Job<io::Result<BytesMut>>>,
}

/// A file that is read, and closed if necessary, on disk threads.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: Option<File>,
    pub(crate) disk: Disk,
    /// Whether it was opened on a disk thread, so that further operations may block too.
    waits: bool,
}

impl DiskFile {
    /// `waits` says that it was opened on a thread of `disk`.
    pub(crate) fn new(file: File, disk: Disk, waits: bool) -> Self {
        Self { file: Some(file), disk, waits }
    }

    /// The file, which exists until drop.
    pub(crate) fn get(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether operations on the file may block.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        if self.waits {
            self.disk.close(self.file.take());
        }
    }
}

impl FileBody {
    /// Charges data in memory to `memory`: the whole of a small file, which may outlive its cache entry, and
    /// each block of a large one.
    pub(crate) fn count_in(&mut self, memory: &Arc<Quota>) {
        match &mut self.0 {
            Source::Memory(data) if data.len() > COUNTED => *data = memory.count(std::mem::take(data)),
            Source::Memory(_) => {}
            Source::Disk(reader) => reader.memory = Some(Arc::clone(memory)),
        }
    }

    pub(crate) fn empty() -> Self {
        Self::memory(Bytes::new())
    }

    pub(crate) fn memory(data: Bytes) -> Self {
        Self(Source::Memory(data))
    }

    /// A range of an open file. `kept` is dropped with the body.
    pub(crate) fn disk(file: Arc<DiskFile>, range: Range<u64>, kept: Arc<dyn Any + Send + Sync>) -> Self {
        let (memory, sent) = (None, Bytes::new());
        let reader = DiskReader { file, _kept: kept, left: range, memory, sent, reading: None };
        Self(Source::Disk(Box::new(reader)))
    }

    fn left(&self) -> u64 {
        match &self.0 {
            Source::Memory(data) => data.len() as u64,
            Source::Disk(reader) => reader.left.end - reader.left.start,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Source::Memory(data) if data.is_empty() => Poll::Ready(None),
            Source::Memory(data) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(data))))),
            Source::Disk(reader) if reader.left.is_empty() => Poll::Ready(None),
            Source::Disk(reader) => reader.poll_block(cx).map(|block| Some(block.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl DiskReader {
    /// Reads the next block, of which something is left. Data in the page cache is read directly.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                return Poll::Ready(read?.and_then(|block| self.send(block)));
            }
            let mut block = self.buffer();
            match read_cached(&self.file, &mut block, self.left.start) {
                Ok(count) => {
                    block.truncate(count);
                    return Poll::Ready(self.send(block));
                }
                Err(Errno::INTR) => {}
                // Not cached, or not supported by the file system.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    let (file, at) = (Arc::clone(&self.file), self.left.start);
                    self.reading = Some(self.file.disk.run(move || {
                        let count = file.get()?.read_at(&mut block, at)?;
                        block.truncate(count);
                        Ok(block)
                    }));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// A buffer for the next block.
    fn buffer(&mut self) -> BytesMut {
        let is_ample = self.memory.as_ref().is_none_or(|it| it.is_ample());
        let block = if is_ample { BLOCK } else { SMALL_BLOCK };
        let left = self.left.end - self.left.start;
        let len = usize::try_from(left).map_or(block, |left| left.min(block));
        let used = std::mem::take(&mut self.sent).try_into_mut().ok();
        let mut buffer = used.filter(|it| it.capacity() <= 2 * block).unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    fn send(&mut self, block: BytesMut) -> io::Result<Bytes> {
        if block.is_empty() {
            let shrunk = "the file has shrunk while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shrunk));
        }
        self.left.start += block.len() as u64;
        self.sent = block.freeze();
        let sent = self.sent.clone();
        Ok(match &self.memory {
            Some(memory) => memory.count(sent),
            None => sent,
        })
    }
}

/// Reads what is in the page cache. Fails with EAGAIN if that is nothing.
pub(crate) fn read_cached(file: &DiskFile, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let file = file.get().map_err(|_| Errno::BADF)?;
    preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT)
}
