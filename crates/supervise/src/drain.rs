//! The end of a worker's service: how long its requests and its WebSockets may take.

use std::time::{Duration, Instant};

use crate::event::Limits;

/// How long WebSockets stay open in a worker that is told to close them, so that the app can send a last message.
pub(crate) const SOCKETS_TIME: Duration = Duration::from_secs(1);

/// A drain that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// When it began, as far as known.
    pub(crate) since: Instant,
    /// When the time for requests is over.
    pub(crate) deadline: Instant,
    pub(crate) sockets: Sockets,
}

/// What a drain does with open WebSockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sockets {
    /// They may keep the worker for [`Limits::websocket_drain`].
    Kept,
    /// They are closed now.
    Closed,
}

/// What a worker is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOrder {
    /// How long running requests may take.
    pub grace: Duration,
    /// How long WebSockets may stay open.
    pub sockets: Duration,
}

impl DrainOrder {
    /// The order for a worker that is stopped, and not replaced.
    #[must_use]
    pub fn stop(grace: Duration) -> Self {
        Self { grace, sockets: SOCKETS_TIME.min(grace / 2) }
    }
}

impl Drain {
    pub(crate) fn new(now: Instant, grace: Duration, sockets: Sockets) -> Self {
        Self { since: now, deadline: now + grace, sockets }
    }

    /// Has its WebSockets closed, and gives the app the usual time for that.
    pub(crate) fn close_sockets(&mut self, now: Instant, grace: Duration) {
        (self.deadline, self.sockets) = (now + grace, Sockets::Closed);
    }

    /// When the worker has to be gone, if it has that many WebSockets open.
    pub(crate) fn end(&self, open: u32, limits: &Limits) -> Instant {
        match self.sockets_end(open, limits) {
            // The worker closes them by itself, and the app gets the usual time to react.
            Some(end) => self.deadline.max(end + limits.grace),
            None => self.deadline,
        }
    }

    /// When the worker closes its WebSockets. None if it has none, or has to close them now.
    pub(crate) fn sockets_end(&self, open: u32, limits: &Limits) -> Option<Instant> {
        let is_kept = open > 0 && self.sockets == Sockets::Kept;
        is_kept.then(|| self.since + limits.websocket_drain)
    }

    pub(crate) fn order(&self, now: Instant, limits: &Limits) -> DrainOrder {
        let grace = self.deadline.saturating_duration_since(now);
        match self.sockets {
            Sockets::Closed => DrainOrder::stop(grace),
            Sockets::Kept => {
                let end = self.since + limits.websocket_drain;
                DrainOrder { grace, sockets: end.saturating_duration_since(now) }
            }
        }
    }
}
