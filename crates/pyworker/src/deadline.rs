//! How long one request may take until its response begins, and what has come of that.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How long a request may go on after its limit, at most, before its thread is taken for stuck.
const GRACE: Duration = Duration::from_secs(5);

/// The deadline of one request. The thread that runs the app costs it two stores; who watches all of them
/// ([`crate::watch`]) has the clock.
///
/// ```text
///            the response begins in pieces
///   Running ──────────────────────────────▶ Answering ──┐
///      │                                                │ leave
///      ├────────────────────────────────────────────────┼──────▶ Left
///      │ limit over                                     │
///      └───────────▶ Expired ──grace over──▶ Stuck ─────┘
/// ```
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    /// None is no limit.
    limit: Option<Duration>,
    /// When it was seen first, in milliseconds of the watch's clock and one; 0 before that.
    seen: AtomicU64,
    phase: AtomicU8,
    runner: Runner,
    /// `RequestTimeout` was raised.
    raised: AtomicBool,
    /// The stack of its thread is in the log.
    logged: AtomicBool,
}

/// The thread that runs the app for one request.
#[derive(Debug, Default)]
struct Runner {
    ident: AtomicU64,
    id: AtomicI32,
}

/// One of Python's threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId {
    /// As `threading.get_ident()` has it.
    pub(crate) ident: u64,
    /// As the kernel has it.
    pub(crate) id: i32,
}

const RUNNING: u8 = 0;
const ANSWERING: u8 = 1;
const EXPIRED: u8 = 2;
const STUCK: u8 = 3;
const LEFT: u8 = 4;

/// What a look found, told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing new.
    Nothing,
    /// The limit is over, and nothing was answered.
    Expired,
    /// The grace is over, too.
    Stuck,
}

/// The response cannot begin any more: the client was told that it took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request took longer than its limit")]
pub(crate) struct TooLate;

impl Deadline {
    /// A limit in milliseconds; 0 is none.
    pub(crate) fn new(limit: u32) -> Self {
        let limit = Some(Duration::from_millis(limit.into())).filter(|it| !it.is_zero());
        Self { limit, ..Self::default() }
    }

    /// A thread runs the app for it, from here on.
    pub(crate) fn run_by(&self, thread: ThreadId) {
        self.runner.ident.store(thread.ident, Ordering::Relaxed);
        self.runner.id.store(thread.id, Ordering::Release);
    }

    /// Who runs the app for it, once somebody does.
    pub(crate) fn runner(&self) -> Option<ThreadId> {
        let id = self.runner.id.load(Ordering::Acquire);
        (id != 0).then(|| ThreadId { ident: self.runner.ident.load(Ordering::Relaxed), id })
    }

    /// The limit.
    pub(crate) fn limit(&self) -> Duration {
        self.limit.unwrap_or_default()
    }

    /// How long it goes on, by what `look` saw.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        match self.seen.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            seen => Duration::from_millis(milliseconds(now).saturating_sub(seen - 1)),
        }
    }

    /// A look at `now`. The first one starts the clock: nobody has read it when the request began.
    pub(crate) fn look(&self, now: Duration) -> Found {
        let Some(limit) = self.limit else { return Found::Nothing };
        if self.seen.load(Ordering::Relaxed) == 0 {
            self.seen.store(milliseconds(now) + 1, Ordering::Relaxed);
        }
        let age = self.age(now);
        if age >= limit && self.turn(RUNNING, EXPIRED) {
            Found::Expired
        } else if age >= limit + limit.min(GRACE) && self.turn(EXPIRED, STUCK) {
            Found::Stuck
        } else {
            Found::Nothing
        }
    }

    /// The response begins, and may go on for as long as it likes.
    pub(crate) fn answer(&self) -> Result<(), TooLate> {
        let is_in_time = self.turn(RUNNING, ANSWERING) || self.phase() == ANSWERING;
        if is_in_time { Ok(()) } else { Err(TooLate) }
    }

    /// The thread is done with the app. Tells whether the limit was over before.
    pub(crate) fn leave(&self) -> bool {
        matches!(self.phase.swap(LEFT, Ordering::SeqCst), EXPIRED | STUCK)
    }

    /// Whether the limit is over, and the thread still in the app.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), EXPIRED | STUCK)
    }

    /// Whether `RequestTimeout` is to be raised by whoever asks: the first, and no one before or after.
    pub(crate) fn is_to_be_raised(&self) -> bool {
        self.is_over() && !self.raised.swap(true, Ordering::SeqCst)
    }

    /// Whether the stack is still to be logged by whoever asks.
    pub(crate) fn is_to_be_logged(&self) -> bool {
        !self.logged.swap(true, Ordering::SeqCst)
    }

    /// Whether nothing is hoped for any more.
    pub(crate) fn is_stuck(&self) -> bool {
        self.phase() == STUCK
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::SeqCst)
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.phase.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

fn milliseconds(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_end_is_found_once_and_counted_from_the_first_look() {
        let deadline = Deadline::new(60_000);
        for (second, found) in [
            (100, Found::Nothing),
            (159, Found::Nothing),
            (160, Found::Expired),
            (164, Found::Nothing),
            (165, Found::Stuck),
            (1000, Found::Nothing),
        ] {
            assert_eq!(deadline.look(SECOND * second), found, "after {second} s");
        }
        assert_eq!(deadline.age(SECOND * 170), SECOND * 70);
        assert!(deadline.is_stuck());
    }

    #[test]
    fn the_grace_is_no_longer_than_the_limit() {
        let deadline = Deadline::new(1000);
        let looks = [0, 1, 2].map(|second| deadline.look(SECOND * second));
        assert_eq!(looks, [Found::Nothing, Found::Expired, Found::Stuck]);
    }

    #[test]
    fn a_response_that_began_in_time_may_go_on() {
        let deadline = Deadline::new(1000);
        assert_eq!(deadline.look(SECOND), Found::Nothing);
        assert_eq!((deadline.answer(), deadline.answer()), (Ok(()), Ok(())));
        assert_eq!(deadline.look(SECOND * 9), Found::Nothing);
        assert!(!deadline.leave());
    }

    #[test]
    fn one_that_comes_late_does_not_begin() {
        let deadline = Deadline::new(1000);
        assert_eq!((deadline.look(SECOND), deadline.look(SECOND * 2)), (Found::Nothing, Found::Expired));
        assert_eq!(deadline.answer(), Err(TooLate));
        assert!(deadline.is_to_be_raised() && !deadline.is_to_be_raised(), "raised once");
        assert!(deadline.is_over() && deadline.leave() && !deadline.is_over());
        assert_eq!(deadline.look(SECOND * 9), Found::Nothing, "who has left is not stuck");
    }

    #[test]
    fn without_a_limit_nothing_is_late() {
        let deadline = Deadline::new(0);
        assert_eq!((deadline.look(SECOND), deadline.look(SECOND * 9999)), (Found::Nothing, Found::Nothing));
        assert_eq!(deadline.runner(), None);
    }
}
