//! Tracks who drives the I/O of a worker with one Python thread, in one atomic word.

use std::sync::atomic::{AtomicU64, Ordering};

/// The right to drive the runtime. Python's thread has it while it waits for a request. While that thread is
/// in a call into the app, or waits for the GIL before one, the helper may take over, once the call has
/// lasted long enough to be worth a thread switch.
///
/// ```text
///             enter                      take_over (same call as seen before)
///   Waiting ─────────▶ InCall(call) ──────────────────▶ Driven(call)
///    │   ▲ ▲ leave          │                                │
///    │   │ └────────────────┘          leave: asks it back   │
///    │   └───────────────────────────────────────────────────┘
///    ▼ park (the helper sleeps)
///   Parked ──enter: wake the helper──▶ InCall(call)
/// ```
#[derive(Debug, Default)]
pub(crate) struct Handoff(AtomicU64);

const WAITING: u64 = 0;
const PARKED: u64 = 1;
const DRIVEN: u64 = 1;

/// What the helper sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Python's thread drives.
    Waiting,
    /// It is in this call.
    InCall(Call),
}

/// One call into the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(u64);

/// What to do on entering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Entered {
    HelperIsAwake,
    /// The helper sleeps and has to be woken.
    WakeHelper,
}

/// What to do on leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Left {
    NotTaken,
    /// The helper is driving and has to be asked to stop.
    AskBack,
}

impl Handoff {
    /// Python's thread starts a call, number `count`.
    pub(crate) fn enter(&self, count: u64) -> Entered {
        match self.0.swap((count + 1) << 1, Ordering::SeqCst) {
            PARKED => Entered::WakeHelper,
            _ => Entered::HelperIsAwake,
        }
    }

    /// The call has ended.
    pub(crate) fn leave(&self) -> Left {
        match self.0.swap(WAITING, Ordering::SeqCst) & DRIVEN {
            0 => Left::NotTaken,
            _ => Left::AskBack,
        }
    }

    /// Called by the helper to see the current state.
    pub(crate) fn look(&self) -> Seen {
        match self.0.load(Ordering::SeqCst) {
            WAITING | PARKED => Seen::Waiting,
            call => Seen::InCall(Call(call)),
        }
    }

    /// Lets the helper drive, if Python's thread is still in `call`.
    pub(crate) fn take_over(&self, call: Call) -> bool {
        self.exchange(call.0, call.0 | DRIVEN)
    }

    /// Lets the helper sleep, if Python's thread drives.
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

    fn in_call(handoff: &Handoff) -> Call {
        match handoff.look() {
            Seen::InCall(call) => call,
            Seen::Waiting => panic!("in no call"),
        }
    }

    #[test]
    fn a_short_call_is_not_taken_over() {
        let handoff = Handoff::default();
        assert_eq!(handoff.enter(0), Entered::HelperIsAwake);
        let call = in_call(&handoff);
        assert_eq!(handoff.leave(), Left::NotTaken);
        assert_eq!(handoff.enter(1), Entered::HelperIsAwake);
        assert!(!handoff.take_over(call), "the helper saw an earlier call");
    }

    #[test]
    fn the_helper_drives_during_a_long_call() {
        let handoff = Handoff::default();
        assert_eq!(handoff.enter(0), Entered::HelperIsAwake);
        assert!(handoff.take_over(in_call(&handoff)));
        assert_eq!(handoff.leave(), Left::AskBack);
        assert_eq!(handoff.look(), Seen::Waiting);
    }

    #[test]
    fn a_sleeping_helper_is_woken_once_by_the_next_call() {
        let handoff = Handoff::default();
        assert!(handoff.park());
        assert!(handoff.park(), "the helper woke up spuriously");
        assert_eq!(handoff.look(), Seen::Waiting);
        assert_eq!(handoff.enter(0), Entered::WakeHelper);
        assert!(!handoff.park(), "the helper must not sleep during a call");
        assert_eq!(handoff.leave(), Left::NotTaken);
        assert_eq!(handoff.enter(1), Entered::HelperIsAwake);
    }
}
