//! When something on a WebSocket happens too late: pings, the stages of its end, and writes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::limits::quota::Quota;

/// Time between two pings, and the time to respond to one. A client that sends messages gets none.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How much faster a client must read while the memory of its address, or of all clients, is full.
const MEMORY_FULL_DIVISOR: u32 = 10;

/// One timer for all that can happen too late.
pub(super) struct Clock {
    pub(super) timer: Pin<Box<Sleep>>,
    pub(super) ping_at: Instant,
    /// When the current stage has to be over.
    deadline: Option<Instant>,
    /// Since when the client has read nothing.
    pub(super) blocked_since: Option<Instant>,
    send_timeout: Duration,
    memory: Arc<Quota>,
    /// Since the last check: whether the client has sent anything, or has read on after it was slow.
    pub(super) heard: bool,
    /// How many pings the client has sent since the last check.
    pub(super) pings: u32,
    /// The last check has sent a ping.
    has_pinged: bool,
    /// A message has arrived since the last check: no ping is needed.
    pub(super) is_busy: bool,
}

impl Clock {
    pub(super) fn new(send_timeout: Duration, memory: Arc<Quota>) -> Self {
        let ping_at = Instant::now() + PING_INTERVAL;
        Self {
            timer: Box::pin(tokio::time::sleep_until(ping_at)),
            ping_at,
            deadline: None,
            blocked_since: None,
            send_timeout,
            memory,
            heard: false,
            pings: 0,
            has_pinged: false,
            is_busy: false,
        }
    }

    /// Sets the timer to what is due next.
    pub(super) fn arm(&mut self) {
        // Checked more often than at its end, since the memory may become full.
        let blocked = self.blocked_since.map(|_| Instant::now() + self.send_timeout / MEMORY_FULL_DIVISOR);
        let next = [Some(self.ping_at), self.deadline, blocked].into_iter().flatten().min();
        let next = next.unwrap_or(self.ping_at);
        if self.timer.deadline() != next || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
    }

    pub(super) fn send_limit(&self) -> Duration {
        if self.memory.is_full() { self.send_timeout / MEMORY_FULL_DIVISOR } else { self.send_timeout }
    }

    /// The client accepts no data.
    pub(super) fn blocked(&mut self) {
        if self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
            self.arm();
        }
    }

    /// Sets the deadline of a stage.
    pub(super) fn end_within(&mut self, time: Duration) {
        self.deadline = Some(Instant::now() + time);
        self.arm();
    }

    /// Whether the stage, or a write, takes too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let is_stalled = self.blocked_since.is_some_and(|it| it + self.send_limit() <= now);
        is_stalled || self.deadline.is_some_and(|it| it <= now)
    }

    /// Whether the client hasn't responded to the last ping, or to anything since.
    pub(super) fn is_silent(&self) -> bool {
        self.has_pinged && !self.heard
    }

    /// The next check is due after the interval. `pings`: whether a ping was sent.
    pub(super) fn checked(&mut self, now: Instant, pings: bool) {
        (self.has_pinged, self.heard, self.is_busy, self.pings) = (pings, false, false, 0);
        self.ping_at = now + PING_INTERVAL;
    }
}
