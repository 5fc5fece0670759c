//! When a draining worker aborts its requests, closes its WebSockets, and exits.

use std::time::Duration;

use tokio::time::Instant;

use super::attach::DrainOrder;

/// How long WebSockets stay open after SIGTERM, so that the app can send a last message.
const SOCKETS_TIME: Duration = Duration::from_secs(1);

impl DrainOrder {
    /// The order that SIGTERM stands for: this process isn't replaced.
    pub(super) fn stop(grace: Duration) -> Self {
        Self { grace, sockets: SOCKETS_TIME.min(grace / 2) }
    }
}

/// A drain under way.
///
/// If WebSockets have less time than requests, all ends with the requests' time. Otherwise, open WebSockets keep the
/// process beyond it, and once they are closed, the app gets its usual stop time to return.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    requests: Instant,
    sockets: Instant,
    end: Instant,
    has_aborted: bool,
    has_closed: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    CloseSockets,
    AbortRequests,
    End,
}

impl Drain {
    /// `stop` is the time that the app's file gives to a stop.
    pub(super) fn new(now: Instant, order: DrainOrder, stop: Duration) -> Self {
        let (requests, sockets) = (now + order.grace, now + order.sockets);
        let end = if sockets < requests { requests } else { sockets + stop };
        Self { requests, sockets, end, has_aborted: false, has_closed: false }
    }

    /// Replaces both times.
    pub(super) fn repeat(&mut self, now: Instant, order: DrainOrder, stop: Duration) {
        let Self { has_aborted, has_closed, .. } = *self;
        *self = Self { has_aborted, has_closed, ..Self::new(now, order, stop) };
    }

    /// Whether WebSockets keep the process, if there are any.
    pub(super) fn keeps_sockets(&self) -> bool {
        !self.has_closed
    }

    /// When to call [`Self::due`] again.
    pub(super) fn next(&self) -> Instant {
        let sockets = (!self.has_closed).then_some(self.sockets);
        let requests = (!self.has_aborted).then_some(self.requests);
        sockets.into_iter().chain(requests).fold(self.end, Instant::min)
    }

    /// The next thing that is due, with that many WebSockets open. It counts as done.
    pub(super) fn due(&mut self, now: Instant, open_sockets: u32) -> Option<Due> {
        if !self.has_closed && self.sockets <= now {
            self.has_closed = true;
            return Some(Due::CloseSockets);
        }
        if !self.has_aborted && self.requests <= now {
            self.has_aborted = true;
            return Some(if open_sockets == 0 { Due::End } else { Due::AbortRequests });
        }
        (self.end <= now).then_some(Due::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Duration = Duration::from_secs(30);

    /// Runs a drain with that many open WebSockets. Returns what was done, and after how many milliseconds.
    fn run(order: DrainOrder, open_sockets: u32) -> Vec<(u128, Due)> {
        let began = Instant::now();
        let mut drain = Drain::new(began, order, STOP);
        let mut done = Vec::new();
        while !matches!(done.last(), Some((_, Due::End))) {
            let now = drain.next();
            while let Some(due) = drain.due(now, open_sockets) {
                done.push(((now - began).as_millis(), due));
                if due == Due::End {
                    break;
                }
            }
        }
        done
    }

    fn order(grace: u64, sockets: u64) -> DrainOrder {
        DrainOrder { grace: Duration::from_secs(grace), sockets: Duration::from_secs(sockets) }
    }

    #[test]
    fn without_websockets_the_time_of_requests_counts() {
        assert_eq!(run(order(30, 3600), 0), [(30_000, Due::End)]);
        assert_eq!(run(order(0, 3600), 0), [(0, Due::End)]);
    }

    #[test]
    fn websockets_keep_the_process_for_their_own_time() {
        let expected = [(30_000, Due::AbortRequests), (3_600_000, Due::CloseSockets), (3_630_000, Due::End)];
        assert_eq!(run(order(30, 3600), 5), expected);
        let both = [(30_000, Due::CloseSockets), (30_000, Due::AbortRequests), (60_000, Due::End)];
        assert_eq!(run(order(30, 30), 5), both);
    }

    #[test]
    fn a_stop_waits_for_no_websocket() {
        let stop = run(DrainOrder::stop(STOP), 5);
        assert_eq!(stop[0], (1000, Due::CloseSockets));
        assert_eq!(stop.last(), Some(&(30_000, Due::End)));
        let quick = run(DrainOrder::stop(Duration::from_millis(200)), 5);
        assert_eq!((quick[0], quick.last()), ((100, Due::CloseSockets), Some(&(200, Due::End))));
    }

    #[test]
    fn a_later_order_replaces_the_times() {
        let began = Instant::now();
        let mut drain = Drain::new(began, order(30, 3600), STOP);
        assert_eq!(drain.due(began + STOP, 5), Some(Due::AbortRequests));
        let later = began + STOP * 2;
        drain.repeat(later, order(0, 7200), STOP);
        assert_eq!((drain.due(later, 5), drain.next()), (None, later + Duration::from_secs(7200)));
        drain.repeat(later, DrainOrder::stop(STOP), STOP);
        assert!(drain.keeps_sockets());
        assert_eq!(drain.due(later + SOCKETS_TIME, 5), Some(Due::CloseSockets));
        assert!(!drain.keeps_sockets());
        assert_eq!(drain.next(), later + STOP);
    }
}
