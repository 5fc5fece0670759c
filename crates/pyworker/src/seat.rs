//! Who drives the I/O of a worker with one Python thread, as one atomic word.

use std::sync::atomic::{AtomicU64, Ordering};

/// Python's thread drives while it waits for a request. While it is inside the app, the minder drives in
/// its place, once the call has lasted long enough to be worth a change of threads.
///
/// ```text
///             enter                      take_over (same call as seen before)
///   Waiting ─────────▶ Inside(call) ──────────────────▶ Driven(call)
///    │   ▲ ▲ leave          │                                │
///    │   │ └────────────────┘          leave: asks it back   │
///    │   └───────────────────────────────────────────────────┘
///    ▼ park (the minder sleeps)
///   Parked ──enter: wake the minder──▶ Inside(call)
/// ```
#[derive(Debug, Default)]
pub(crate) struct Seat(AtomicU64);

const WAITING: u64 = 0;
const PARKED: u64 = 1;
const DRIVEN: u64 = 1;

/// What the minder finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Python's thread is in its seat.
    Waiting,
    /// It is inside the app, in this call.
    Inside(Call),
}

/// One call into the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(u64);

/// What has to be done on entering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Entered {
    /// Nothing.
    Minded,
    /// The minder sleeps: wake it.
    WakeMinder,
}

/// What has to be done on leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Left {
    /// Nothing.
    OwnSeat,
    /// The minder drives: ask it for the seat.
    AskBack,
}

impl Seat {
    /// Python's thread enters the app, for the `count`th time.
    pub(crate) fn enter(&self, count: u64) -> Entered {
        match self.0.swap((count + 1) << 1, Ordering::SeqCst) {
            PARKED => Entered::WakeMinder,
            _ => Entered::Minded,
        }
    }

    /// Python's thread is out of the app again.
    pub(crate) fn leave(&self) -> Left {
        match self.0.swap(WAITING, Ordering::SeqCst) & DRIVEN {
            0 => Left::OwnSeat,
            _ => Left::AskBack,
        }
    }

    /// A look, by the minder.
    pub(crate) fn look(&self) -> Seen {
        match self.0.load(Ordering::SeqCst) {
            WAITING | PARKED => Seen::Waiting,
            call => Seen::Inside(Call(call)),
        }
    }

    /// The minder takes the seat, if Python's thread is still inside `call`.
    pub(crate) fn take_over(&self, call: Call) -> bool {
        self.exchange(call.0, call.0 | DRIVEN)
    }

    /// The minder goes to sleep (again), if Python's thread is in its seat.
    pub(crate) fn park(&self) -> bool {
        self.exchange(WAITING, PARKED) || self.0.load(Ordering::SeqCst) == PARKED
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(seat: &Seat) -> Call {
        match seat.look() {
            Seen::Inside(call) => call,
            Seen::Waiting => panic!("not inside"),
        }
    }

    #[test]
    fn a_short_call_is_left_alone() {
        let seat = Seat::default();
        assert_eq!(seat.enter(0), Entered::Minded);
        let call = inside(&seat);
        assert_eq!(seat.leave(), Left::OwnSeat);
        assert_eq!(seat.enter(1), Entered::Minded);
        assert!(!seat.take_over(call), "that was another call");
    }

    #[test]
    fn a_long_call_is_taken_over_and_the_seat_asked_back() {
        let seat = Seat::default();
        assert_eq!(seat.enter(0), Entered::Minded);
        assert!(seat.take_over(inside(&seat)));
        assert_eq!(seat.leave(), Left::AskBack);
        assert_eq!(seat.look(), Seen::Waiting);
    }

    #[test]
    fn a_sleeping_minder_is_woken_by_the_next_call_only() {
        let seat = Seat::default();
        assert!(seat.park());
        assert!(seat.park(), "woken for nothing");
        assert_eq!(seat.look(), Seen::Waiting);
        assert_eq!(seat.enter(0), Entered::WakeMinder);
        assert!(!seat.park(), "nobody sleeps while a call is under way");
        assert_eq!(seat.leave(), Left::OwnSeat);
        assert_eq!(seat.enter(1), Entered::Minded);
    }
}
