//! How long one request may take until its response begins, and then from piece to piece; and what has come of that.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How long a request may go on after its limit, at most, before its thread is taken for stuck.
const GRACE: Duration = Duration::from_secs(5);

/// How long a response may go on whose client has gone, at most, before its app is interrupted.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// The deadline of one request. The thread that runs the app costs it two stores, and two additions for each piece of
/// a response; who watches all of them ([`crate::watch`]) has the clock.
///
/// ```text
///            the response begins in pieces              its body has ended
///   Running ──────────────────────────────▶ Answering ────────────────────▶ Closing ──┐
///      │ limit over                             │ idle, or its client gone   │ idle    │ leave
///      └───────────▶ Expired ◀──────────────────┴────────────────────────────┘         ├─────▶ Left
///                      └──────grace over──▶ Stuck ─────────────────────────────────────┘
/// ```
///
/// One that is stuck costs its worker where a client waited for it, or where Python itself is held; else its thread
/// alone ([`Found::Held`]).
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    limits: Limits,
    phase: AtomicU8,
    progress: Progress,
    clock: Clock,
    cause: AtomicU8,
    runner: Runner,
    /// Python could be run on its account since: nothing but its own thread is held.
    reached: AtomicBool,
    /// The exception was raised.
    raised: AtomicBool,
    /// The stack of its thread is in the log.
    logged: AtomicBool,
}

/// How long things may take; none is no limit.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Limits {
    /// Until the response begins.
    request: Option<Duration>,
    /// From one piece of a response to the next.
    idle: Option<Duration>,
}

/// What the watch saw, which alone writes to it. Times are in milliseconds of its clock and one; 0 is none yet.
#[derive(Debug, Default)]
struct Clock {
    /// Since when there was no progress.
    since: AtomicU64,
    /// The progress then.
    progress: AtomicU64,
    /// Since when its client was gone.
    gone: AtomicU64,
}

/// Why a request is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its response did not begin in time.
    Request,
    /// Its response gave nothing for too long.
    Idle,
    /// Its client has gone, and the app goes on with the response.
    ClientGone,
}

/// How often something went on, in the upper bits; in the lower ones, how many threads of the app wait for the client, or
/// for frontd, just now. One addition changes both.
#[derive(Debug, Default)]
struct Progress(AtomicU64);

const WAITER_BITS: u32 = 24;
const STEP: u64 = 1 << WAITER_BITS;

impl Progress {
    fn step(&self) {
        self.0.fetch_add(STEP, Ordering::Relaxed);
    }

    fn begin_wait(&self) {
        self.0.fetch_add(STEP + 1, Ordering::Relaxed);
    }

    fn end_wait(&self) {
        self.0.fetch_add(STEP - 1, Ordering::Relaxed);
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether anybody waited, when it was `progress`.
    fn somebody_waited(progress: u64) -> bool {
        !progress.is_multiple_of(STEP)
    }
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
const CLOSING: u8 = 2;
const EXPIRED: u8 = 3;
const STUCK: u8 = 4;
const LEFT: u8 = 5;

/// What a look found, told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing new.
    Nothing,
    /// A limit is over.
    Expired(Cause),
    /// The app waits for its client, or for frontd, for as long as a response may be idle: to send a piece, or to read one.
    Unread,
    /// The grace is over, too.
    Stuck,
    /// The same, and nobody reads the response any more: nothing but the thread is lost.
    Held,
}

/// The response cannot begin any more: the client was told that it took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request took longer than its limit")]
pub(crate) struct TooLate;

impl Limits {
    /// In milliseconds; 0 is none.
    pub(crate) fn new(request: u32, idle: u32) -> Self {
        let limit = |it: u32| Some(Duration::from_millis(it.into())).filter(|it| !it.is_zero());
        Self { request: limit(request), idle: limit(idle) }
    }

    fn of(self, cause: Cause) -> Duration {
        match cause {
            Cause::Request => self.request.unwrap_or_default(),
            Cause::Idle => self.idle.unwrap_or_default(),
            Cause::ClientGone => self.idle.map_or(GONE_LIMIT, |it| GONE_LIMIT.min(it / 2)),
        }
    }
}

impl Deadline {
    /// A deadline that begins with the first look.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
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

    /// Which limit is over, once one is.
    pub(crate) fn cause(&self) -> Cause {
        match self.cause.load(Ordering::SeqCst) {
            1 => Cause::Idle,
            2 => Cause::ClientGone,
            _ => Cause::Request,
        }
    }

    /// The limit that is over.
    pub(crate) fn limit(&self) -> Duration {
        self.limits.of(self.cause())
    }

    /// How long it makes no progress, by what `look` saw.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        since(&self.clock.since, now)
    }

    /// A look at `now`. The first one starts the clock: nobody has read it when the request began.
    pub(crate) fn look(&self, now: Duration, client: Client) -> Found {
        let (phase, progress) = (self.phase(), self.progress.load());
        self.see(now, phase, progress, client);
        let age = self.age(now);
        match phase {
            RUNNING if self.limits.request.is_some_and(|it| age >= it) => self.expire(phase, Cause::Request),
            ANSWERING if since(&self.clock.gone, now) >= self.limits.of(Cause::ClientGone) => {
                let gone = self.clock.gone.load(Ordering::Relaxed);
                self.clock.since.store(gone, Ordering::Relaxed);
                self.expire(phase, Cause::ClientGone)
            }
            ANSWERING | CLOSING if self.limits.idle.is_some_and(|it| age >= it) => {
                if !Progress::somebody_waited(progress) {
                    return self.expire(phase, Cause::Idle);
                }
                start(&self.clock.since, now);
                Found::Unread
            }
            EXPIRED if age >= self.limit() + self.limit().min(GRACE) && self.turn(EXPIRED, STUCK) => {
                match self.cause() {
                    Cause::Idle | Cause::ClientGone if self.reached.load(Ordering::SeqCst) => Found::Held,
                    _ => Found::Stuck,
                }
            }
            _ => Found::Nothing,
        }
    }

    fn see(&self, now: Duration, phase: u8, progress: u64, client: Client) {
        let Clock { since, progress: seen, gone } = &self.clock;
        // Until the response begins there is one limit, which counts from the beginning.
        let has_begun = matches!(phase, ANSWERING | CLOSING);
        let goes_on = has_begun && seen.swap(progress, Ordering::Relaxed) != progress;
        if goes_on || since.load(Ordering::Relaxed) == 0 {
            start(since, now);
        }
        if phase == ANSWERING && client == Client::Gone && gone.load(Ordering::Relaxed) == 0 {
            start(gone, now);
        }
    }

    fn expire(&self, phase: u8, cause: Cause) -> Found {
        self.cause.store(cause as u8, Ordering::SeqCst);
        if self.turn(phase, EXPIRED) { Found::Expired(cause) } else { Found::Nothing }
    }

    /// The response begins, and may go on for as long as it gives something.
    pub(crate) fn answer(&self) -> Result<(), TooLate> {
        let is_in_time = self.turn(RUNNING, ANSWERING) || self.phase() == ANSWERING;
        self.progress.step();
        if is_in_time { Ok(()) } else { Err(TooLate) }
    }

    /// From here on the calling thread waits for the client, or for frontd: to send a piece, or to read one.
    pub(crate) fn wait_for_client(&self) -> Waiting<'_> {
        self.progress.begin_wait();
        Waiting(&self.progress)
    }

    /// The body of the response has ended.
    pub(crate) fn close(&self) {
        if self.turn(ANSWERING, CLOSING) {
            self.progress.step();
        }
    }

    /// The thread is done with the app. Tells whether a limit was over before.
    pub(crate) fn leave(&self) -> bool {
        matches!(self.phase.swap(LEFT, Ordering::SeqCst), EXPIRED | STUCK)
    }

    /// Whether a limit is over, and the thread still in the app.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), EXPIRED | STUCK)
    }

    /// Whether the response has not begun, and the request has not expired.
    pub(crate) fn is_running(&self) -> bool {
        self.phase() == RUNNING
    }

    /// Python runs on its account: no C code holds the GIL.
    pub(crate) fn reach(&self) {
        self.reached.store(true, Ordering::SeqCst);
    }

    /// Whether the exception is to be raised by whoever asks: the first, and no one before or after.
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

/// Whether the client of a request waits for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Waits,
    Gone,
}

/// A thread waits for the client, or for frontd, until this is dropped. Such time is no idleness of the app.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Progress);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.end_wait();
    }
}

fn start(time: &AtomicU64, now: Duration) {
    time.store(milliseconds(now) + 1, Ordering::Relaxed);
}

fn since(time: &AtomicU64, now: Duration) -> Duration {
    match time.load(Ordering::Relaxed) {
        0 => Duration::ZERO,
        seen => Duration::from_millis(milliseconds(now).saturating_sub(seen - 1)),
    }
}

fn milliseconds(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests;
