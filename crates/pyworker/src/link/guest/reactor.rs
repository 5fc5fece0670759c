//! Tells tasks when their sockets are ready, through one descriptor that another event loop can watch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// The number of events that one system call returns.
const EVENTS: usize = 64;
/// The key of the wake-up descriptor.
const WAKE: u64 = u64::MAX;
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// An epoll instance, edge-triggered, so that polling it makes it unreadable.
pub(super) struct Reactor {
    epoll: OwnedFd,
    /// Makes `epoll` readable.
    wake: OwnedFd,
    sockets: Mutex<Vec<Option<Arc<Readiness>>>>,
}

const READ: u8 = 1;
const WRITE: u8 = 2;
/// The peer sends nothing more: the socket stays readable.
const ENDED: u8 = 4;

/// Whether a socket is ready, as far as is known, and who waits for that.
#[derive(Debug)]
pub(super) struct Readiness {
    ready: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// A direction of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    fn bit(self) -> u8 {
        match self {
            Self::Read => READ,
            Self::Write => WRITE,
        }
    }
}

impl Readiness {
    fn waker(&self, direction: Direction) -> &AtomicWaker {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }

    fn set(&self, bits: u8) {
        self.ready.fetch_or(bits, Ordering::SeqCst);
        if bits & READ != 0 {
            self.reader.wake();
        }
        if bits & WRITE != 0 {
            self.writer.wake();
        }
    }

    /// Whether the socket may be ready. Otherwise, the task is woken once it is.
    pub(super) fn is_ready(&self, direction: Direction, context: &Context<'_>) -> bool {
        if self.ready.load(Ordering::SeqCst) & direction.bit() != 0 {
            return true;
        }
        self.waker(direction).register(context.waker());
        self.ready.load(Ordering::SeqCst) & direction.bit() != 0
    }

    /// The socket has no more, or takes no more. Its next edge makes it ready again.
    pub(super) fn clear(&self, direction: Direction) {
        self.ready.fetch_and(!direction.bit(), Ordering::SeqCst);
    }

    /// A read returned less than it could have. That tells nothing if the end of the stream may follow.
    pub(super) fn clear_after_short_read(&self) {
        if self.ready.load(Ordering::SeqCst) & ENDED == 0 {
            self.clear(Direction::Read);
        }
    }
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, wake, sockets: Mutex::default() })
    }

    /// Watches `socket`. Returns the key to remove it with.
    pub(super) fn add(&self, socket: impl AsFd) -> io::Result<(usize, Arc<Readiness>)> {
        // It is tried first, so it counts as ready.
        let readiness = Arc::new(Readiness {
            ready: AtomicU8::new(READ | WRITE),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        let mut sockets = self.sockets.lock();
        let free = sockets.iter().position(Option::is_none);
        let key = free.unwrap_or(sockets.len());
        let both = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(key as u64), both)?;
        if free.is_none() {
            sockets.push(None);
        }
        sockets[key] = Some(Arc::clone(&readiness));
        Ok((key, readiness))
    }

    /// Ends watching `socket`.
    pub(super) fn remove(&self, key: usize, socket: impl AsFd) {
        let _its_end_would_remove_it = epoll::delete(&self.epoll, socket);
        self.sockets.lock()[key] = None;
    }

    /// Wakes the tasks whose sockets have become ready.
    pub(super) fn poll(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            let Ok(count) = epoll::wait(&self.epoll, buffer, Some(&NO_WAIT)) else { return };
            let sockets = self.sockets.lock();
            for event in &events {
                let Some(Some(readiness)) =
                    usize::try_from(event.data.u64()).ok().and_then(|it| sockets.get(it))
                else {
                    continue;
                };
                let flags = event.flags;
                let over = EventFlags::ERR | EventFlags::HUP;
                let mut bits = 0;
                if flags.intersects(EventFlags::IN | EventFlags::RDHUP | over) {
                    bits |= READ;
                }
                if flags.intersects(EventFlags::RDHUP | over) {
                    bits |= ENDED;
                }
                if flags.intersects(EventFlags::OUT | over) {
                    bits |= WRITE;
                }
                readiness.set(bits);
            }
            if count < EVENTS {
                return;
            }
        }
    }

    /// Whether `poll` would find something.
    pub(super) fn is_readable(&self) -> bool {
        poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&NO_WAIT)).is_ok_and(|it| it > 0)
    }

    /// Makes the descriptor readable until the next `poll`.
    pub(super) fn wake(&self) {
        // The count is never read: each write is an edge. It can't overflow within the life of a process.
        let _never_full = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
