//! Writes lines to stdout, stderr and a file without ever blocking on a reader or a disk.

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

/// The name of the thread that waits for a reader. It is only started when needed.
pub const WRITER: &str = "log-writer";

/// Maximum size of the queued lines, in bytes. Further lines are dropped and counted.
const LIMIT: usize = 512 << 10;
/// Memory of a queued line in addition to its text, in bytes.
const OVERHEAD: usize = 32;
/// Space in a pipe that is left to other processes that may write at the same time.
const MARGIN: usize = 8 * PAGE;
/// A pipe stores at most one write per page, however short (`pipe(7)`).
const PAGE: usize = 4096;
const WRITER_STACK: usize = 128 << 10;

static STDERR: Output = Output::new(rustix::stdio::stderr, super::dropped_line);
static STDOUT: Output = Output::new(rustix::stdio::stdout, super::dropped_line);

/// Writes a line, and may block.
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

/// The number of writes to either stream that were dropped since the process started.
#[must_use]
pub fn dropped() -> u64 {
    STDERR.dropped() + STDOUT.dropped()
}

/// Waits until everything is written, for at most `limit` per stream. For use at the end of a process.
pub fn flush(limit: Duration) {
    STDERR.flush(limit);
    STDOUT.flush(limit);
}

/// A stream or file that several threads write to, one or more whole lines at a time.
///
/// A line for a stream is written directly if the kernel accepts it without blocking, so the last line is out
/// even if the process is killed a moment later. Everything else is queued for a thread that may block.
pub struct Output {
    sink: Sink,
    /// Creates the line that reports dropped lines. Must not take locks: see `Queue::of_this_process`.
    report: fn(u64) -> Vec<u8>,
    queue: OnceLock<Queue>,
    /// The number of dropped writes.
    dropped: AtomicU64,
}

/// The destination of the lines.
enum Sink {
    /// A standard stream.
    Stream(fn() -> BorrowedFd<'static>),
    /// Only written by the thread, because a disk may be slow. The thread creates the writer when it starts,
    /// so that a forked process doesn't share it.
    Slow(fn() -> WriteLine),
}

/// The queued lines of one process.
struct Queue {
    process: u32,
    state: Mutex<State>,
    changed: Condvar,
    /// The queue of a process that was forked from this one.
    of_fork: OnceLock<Box<Queue>>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    has_writer: bool,
    /// The writer has removed a line and hasn't finished writing it.
    is_writing: bool,
    /// Lines dropped since the queue was full. New lines are only accepted again once half of it is free.
    dropped: u64,
}

impl Output {
    const fn new(descriptor: fn() -> BorrowedFd<'static>, report: fn(u64) -> Vec<u8>) -> Self {
        Self::to(Sink::Stream(descriptor), report)
    }

    /// Lines are only written by the thread.
    pub(crate) const fn slow(writer: fn() -> WriteLine, report: fn(u64) -> Vec<u8>) -> Self {
        Self::to(Sink::Slow(writer), report)
    }

    const fn to(sink: Sink, report: fn(u64) -> Vec<u8>) -> Self {
        Self { sink, report, queue: OnceLock::new(), dropped: AtomicU64::new(0) }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts a line that was dropped, or whose stream is closed or broken.
    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes a line, or drops and counts it. Never blocks.
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

    /// Waits until everything is written, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let queue = self.queue();
        let waits = |state: &mut State| state.has_writer && (state.is_writing || !state.lines.is_empty());
        let _nobody_reads = queue.changed.wait_timeout_while(queue.lock(), limit, waits);
    }

    /// The loop of the writer thread. It takes no lock except the queue's, because the process may be forked
    /// at any time.
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
    /// Writes as much as possible without blocking.
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

    /// The queue of the current process. A forked process has no writer thread, and its copy of the queue may
    /// be locked forever. So it gets its own queue, and leaves the lines in the copy to the parent.
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
    /// Queues a line, or drops it and returns `false`. The rest of a partly written line is never dropped, so
    /// that no line is truncated.
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

/// Writes as much as the kernel accepts without blocking.
fn try_write(to: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    match FileType::from_raw_mode(rustix::fs::fstat(to)?.st_mode) {
        FileType::Socket => rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo if !has_room(to, bytes.len())? => Err(Errno::AGAIN),
        FileType::CharacterDevice if rustix::termios::isatty(to) => write_to_terminal(to, bytes),
        _ => rustix::io::write(to, bytes),
    }
}

/// Whether a pipe is certain to accept this many bytes at once. Another process may write to it before our
/// own write: that's what the margin is for.
fn has_room(pipe: BorrowedFd<'_>, length: usize) -> rustix::io::Result<bool> {
    let unread = usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(usize::MAX);
    let capacity = rustix::pipe::fcntl_getpipe_size(pipe)?;
    // Two consecutive writes that don't share a page take up more than one page together.
    let taken = unread.saturating_mul(2).saturating_add(PAGE);
    Ok(taken.saturating_add(length).saturating_add(MARGIN) <= capacity)
}

/// Opens the terminal again: `O_NONBLOCK` on stderr itself would affect all processes that share it.
fn write_to_terminal(terminal: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|_| Errno::AGAIN)?;
    rustix::io::write(opened, bytes)
}

/// Writes everything, and blocks as long as necessary.
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
