//! Writes lines to stdout, stderr and a file without ever waiting for whoever reads them, or for the disk.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// The name of the thread that waits for a reader, which exists only once it was needed.
pub const WRITER: &str = "log-writer";

/// How much may wait for a reader, in bytes. More is dropped, and counted.
const LIMIT: usize = 512 << 10;
/// What a line that waits takes beyond its text.
const OVERHEAD: usize = 32;
/// Room of a pipe that is left to other processes that write into it at the same moment.
const MARGIN: usize = 8 * PAGE;
/// A pipe holds one write or a part of it per page, however short that is (`pipe(7)`).
const PAGE: usize = 4096;
const WRITER_STACK: usize = 128 << 10;

static STDERR: Output = Output::new(rustix::stdio::stderr, crate::logging::dropped_line);
static STDOUT: Output = Output::new(rustix::stdio::stdout, crate::logging::dropped_line);

/// Writes a line, however long that takes.
pub(crate) type WriteLine = Box<dyn FnMut(&[u8]) -> io::Result<()>>;

/// The standard error stream of this process.
#[must_use]
pub fn stderr() -> &'static Output {
    &STDERR
}

/// The standard output stream of this process.
#[must_use]
pub fn stdout() -> &'static Output {
    &STDOUT
}

/// How many writes to either stream were dropped since this process started.
#[must_use]
pub fn dropped() -> u64 {
    STDERR.dropped() + STDOUT.dropped()
}

/// Waits until everything written so far is out, for `limit` at most per stream. For the end of a process.
pub fn flush(limit: Duration) {
    STDERR.flush(limit);
    STDOUT.flush(limit);
}

/// A stream or a file that several threads write to, a whole line or several at a time.
///
/// A line for a stream is written at once where the kernel takes it without a wait, so that what a process said last
/// is out even if the process is killed a moment later. Everything else is queued, for a thread that waits.
pub struct Output {
    sink: Sink,
    /// Makes the line that tells how many were dropped. Takes no lock: see `Queue::of_this_process`.
    report: fn(u64) -> Vec<u8>,
    queue: OnceLock<Queue>,
    /// How many writes were dropped.
    dropped: AtomicU64,
}

/// Where the lines go.
enum Sink {
    /// A standard stream.
    Stream(fn() -> BorrowedFd<'static>),
    /// What only the thread writes, as a disk may be slow. The thread makes this when it starts, so that a forked
    /// process shares nothing with it.
    Slow(fn() -> WriteLine),
}

/// The lines of one process that wait.
struct Queue {
    process: u32,
    state: Mutex<State>,
    changed: Condvar,
    /// That of a process forked from this one.
    of_fork: OnceLock<Box<Queue>>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    has_writer: bool,
    /// The writer has taken a line out, and is not done with it.
    is_writing: bool,
    /// Lines dropped since the queue was full. Nothing is taken again until half of it is free.
    dropped: u64,
}

impl Output {
    const fn new(descriptor: fn() -> BorrowedFd<'static>, report: fn(u64) -> Vec<u8>) -> Self {
        Self::to(Sink::Stream(descriptor), report)
    }

    /// Lines are written by the thread alone.
    pub(crate) const fn slow(writer: fn() -> WriteLine, report: fn(u64) -> Vec<u8>) -> Self {
        Self::to(Sink::Slow(writer), report)
    }

    const fn to(sink: Sink, report: fn(u64) -> Vec<u8>) -> Self {
        Self { sink, report, queue: OnceLock::new(), dropped: AtomicU64::new(0) }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A line was dropped, or its stream is closed or broken.
    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes, or drops and counts what can't be written. Never waits for a reader.
    pub fn write(&'static self, line: Vec<u8>) {
        let queue = self.queue();
        let mut state = queue.lock();
        let mut rest = line;
        let mut is_begun = false;
        if state.lines.is_empty() && !state.is_writing {
            match self.sink.try_write(&rest) {
                Ok(written) if written >= rest.len() => return,
                Ok(written) => {
                    rest.drain(..written);
                    is_begun = written > 0;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return self.count_dropped(),
            }
        }
        if !state.push(rest, is_begun) {
            self.count_dropped();
        }
        if !state.has_writer {
            let writer = thread::Builder::new().name(WRITER.to_owned()).stack_size(WRITER_STACK);
            state.has_writer = writer.spawn(move || self.write_queued(queue)).is_ok();
        }
        queue.changed.notify_all();
    }

    /// Waits until everything written so far is out, for `limit` at most.
    pub(crate) fn flush(&self, limit: Duration) {
        let queue = self.queue();
        let waits = |state: &mut State| state.has_writer && (state.is_writing || !state.lines.is_empty());
        let _nobody_reads = queue.changed.wait_timeout_while(queue.lock(), limit, waits);
    }

    /// The writer's life. It takes no lock but the queue's: this process may be forked at any moment.
    fn write_queued(&self, queue: &Queue) {
        let mut write = self.sink.writer();
        loop {
            let mut state = queue.lock();
            state.is_writing = false;
            if state.dropped > 0 && state.bytes <= LIMIT / 2 {
                let line = (self.report)(std::mem::take(&mut state.dropped));
                let _there_is_room = state.push(line, false);
            }
            let Some(line) = state.pop() else {
                queue.changed.notify_all();
                drop(queue.changed.wait(state));
                continue;
            };
            state.is_writing = true;
            drop(state);
            if write(&line).is_err() {
                self.count_dropped();
            }
        }
    }

    fn queue(&self) -> &Queue {
        self.queue.get_or_init(Queue::new).of_this_process()
    }
}

impl Sink {
    /// Writes as much as is taken without a wait.
    fn try_write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Stream(descriptor) => try_write(descriptor(), bytes),
            Self::Slow(_) => Err(Errno::AGAIN),
        }
    }

    fn writer(&self) -> WriteLine {
        match *self {
            Self::Stream(descriptor) => Box::new(move |line| write_all(descriptor(), line)),
            Self::Slow(writer) => writer(),
        }
    }
}

impl Queue {
    fn new() -> Self {
        Self {
            process: std::process::id(),
            state: Mutex::default(),
            changed: Condvar::new(),
            of_fork: OnceLock::new(),
        }
    }

    /// A forked process has no writer, and its copy of the queue may be locked for good: it gets its own, and leaves the
    /// lines in the copy to the process it was forked from.
    fn of_this_process(&self) -> &Self {
        let process = std::process::id();
        let mut queue = self;
        while queue.process != process {
            queue = queue.of_fork.get_or_init(|| Box::new(Self::new()));
        }
        queue
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Queues a line, or drops it and returns false. One that is begun is never dropped, so that no line is cut.
    fn push(&mut self, line: Vec<u8>, is_begun: bool) -> bool {
        let is_full = self.dropped > 0 || self.bytes + line.len() > LIMIT;
        if is_full && !is_begun {
            self.dropped += 1;
            return false;
        }
        self.bytes += line.len() + OVERHEAD;
        self.lines.push_back(line);
        true
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len() + OVERHEAD;
        Some(line)
    }
}

/// Writes as much as the kernel takes without a wait.
fn try_write(to: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    match FileType::from_raw_mode(rustix::fs::fstat(to)?.st_mode) {
        FileType::Socket => rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo if !has_room(to, bytes.len())? => Err(Errno::AGAIN),
        FileType::CharacterDevice if rustix::termios::isatty(to) => write_to_terminal(to, bytes),
        _ => rustix::io::write(to, bytes),
    }
}

/// Whether a pipe certainly takes so much as a whole. Another process may write into it between this and our own
/// write: that's what the margin is for.
fn has_room(pipe: BorrowedFd<'_>, length: usize) -> rustix::io::Result<bool> {
    let unread = usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(usize::MAX);
    let capacity = rustix::pipe::fcntl_getpipe_size(pipe)?;
    // Two writes in a row that don't share a page take more than a page together.
    let taken = unread.saturating_mul(2).saturating_add(PAGE);
    Ok(taken.saturating_add(length).saturating_add(MARGIN) <= capacity)
}

/// `O_NONBLOCK` on stderr itself would hold for every process that shares it.
fn write_to_terminal(terminal: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|_| Errno::AGAIN)?;
    rustix::io::write(opened, bytes)
}

/// Writes everything, however long the reader takes.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _interrupted = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
