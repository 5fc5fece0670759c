//! Limits the time of a request until its response starts, then between the chunks of the response; and
//! tracks the outcome.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::token::{CallToken, TokenCell};

/// The longest time that a request may continue after its limit, before its call counts as stuck.
const GRACE: Duration = Duration::from_secs(5);

/// The longest time that a response may continue after its client has gone, before its app is interrupted.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// The deadline of one request. It costs the call two stores, and two additions per chunk of a response. Whoever
/// looks at all deadlines (the watchdog of the worker) has the clock.
///
/// ```text
///            the response starts, in chunks             its body has ended
///   Running ──────────────────────────────▶ Answering ────────────────────▶ Closing ──┐
///      │ limit over                             │ idle, or its client gone   │ idle    │ leave
///      └───────────▶ Expired ◀──────────────────┴────────────────────────────┘         ├─────▶ Left
///                      └──────grace over──▶ Stuck ─────────────────────────────────────┘
/// ```
///
/// A stuck request costs the whole worker if a client waits for it, or if it blocks Python itself. Otherwise,
/// it only costs its part of the worker's capacity ([`Found::Held`]).
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    limits: Limits,
    phase: AtomicU8,
    progress: Progress,
    clock: Clock,
    cause: AtomicU8,
    token: TokenCell,
    /// Python code could run since the limit was over: only the request's own call is blocked.
    reached: AtomicBool,
    /// The exception has been raised.
    raised: AtomicBool,
    /// Its stack has been logged.
    logged: AtomicBool,
    /// It isn't interrupted because its client has gone.
    ignores_disconnect: AtomicBool,
    /// Its client may still be sending the request's body: the time that this takes doesn't count.
    follows_upload: AtomicBool,
}

/// Time limits. None means no limit.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Limits {
    /// Until the response starts.
    request: Option<Duration>,
    /// Between two chunks of a response.
    idle: Option<Duration>,
}

/// What the watchdog saw, which is the only writer. Times are in milliseconds of its clock plus one; 0 means
/// not yet.
#[derive(Debug, Default)]
struct Clock {
    /// Since when there has been no progress.
    since: AtomicU64,
    /// The progress at that time.
    progress: AtomicU64,
    /// Since when the client has been gone.
    gone: AtomicU64,
}

/// Why a request is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its response didn't start in time.
    Request,
    /// Its response sent nothing for too long.
    Idle,
    /// Its client has gone, but the app continues with the response.
    ClientGone,
}

/// The upper bits count progress. The lower bits count the waits of the app for the client, or for frontd: it may
/// read and write at the same time. One addition changes both.
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

    /// Whether the app was waiting at `progress`.
    fn somebody_waited(progress: u64) -> bool {
        !progress.is_multiple_of(STEP)
    }
}

const RUNNING: u8 = 0;
const ANSWERING: u8 = 1;
const CLOSING: u8 = 2;
const EXPIRED: u8 = 3;
const STUCK: u8 = 4;
const LEFT: u8 = 5;

/// What a look at a deadline found. Each finding is returned once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A limit has been exceeded.
    Expired(Cause),
    /// The app has been waiting for its client, or for frontd, for the whole idle limit: to send a chunk, or
    /// to receive one.
    Unread,
    /// The grace period is over too.
    Stuck,
    /// Same as `Stuck`, but nobody reads the response any more: only the part of the capacity that it has is lost.
    Held,
}

/// It is too late to start the response: the client has already received a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request took longer than its limit")]
pub(crate) struct TooLate;

impl Limits {
    /// Limits in milliseconds; 0 means none.
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
    /// Creates a deadline. Its time starts with the first look.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Records the call of the app that this request gets.
    pub(crate) fn enter(&self, token: CallToken) {
        self.token.set(token);
    }

    /// The request isn't interrupted because its client has gone. Its other limits remain.
    pub(crate) fn ignore_disconnect(&self) {
        self.ignores_disconnect.store(true, Ordering::Relaxed);
    }

    /// The client may still be sending the request's body. Until the response starts, the limit counts from the last time
    /// that the client was waited for.
    pub(crate) fn follow_upload(&self) {
        self.follows_upload.store(true, Ordering::Relaxed);
    }

    /// The call of the app, once there is one.
    pub(crate) fn token(&self) -> Option<CallToken> {
        self.token.get()
    }

    /// The limit that was exceeded, if one was.
    pub(crate) fn cause(&self) -> Cause {
        match self.cause.load(Ordering::SeqCst) {
            1 => Cause::Idle,
            2 => Cause::ClientGone,
            _ => Cause::Request,
        }
    }

    /// The duration of the exceeded limit.
    pub(crate) fn limit(&self) -> Duration {
        self.limits.of(self.cause())
    }

    /// How long there has been no progress, as of the last `look`.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        since(&self.clock.since, now)
    }

    /// Checks the limits at `now`. The first look starts the clock, so that a request doesn't have to read
    /// it.
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
        // Until the response starts, there is one limit, counted from the start of the request.
        let has_begun = matches!(phase, ANSWERING | CLOSING);
        let goes_on = has_begun && seen.swap(progress, Ordering::Relaxed) != progress;
        let uploads = phase == RUNNING
            && self.follows_upload.load(Ordering::Relaxed)
            && Progress::somebody_waited(progress);
        if goes_on || uploads || since.load(Ordering::Relaxed) == 0 {
            start(since, now);
        }
        let is_gone = client == Client::Gone && !self.ignores_disconnect.load(Ordering::Relaxed);
        if phase == ANSWERING && is_gone && gone.load(Ordering::Relaxed) == 0 {
            start(gone, now);
        }
    }

    fn expire(&self, phase: u8, cause: Cause) -> Found {
        self.cause.store(cause as u8, Ordering::SeqCst);
        if self.turn(phase, EXPIRED) { Found::Expired(cause) } else { Found::Nothing }
    }

    /// The response starts. From now on, only the idle limit applies.
    pub(crate) fn answer(&self) -> Result<(), TooLate> {
        let is_in_time = self.turn(RUNNING, ANSWERING) || self.phase() == ANSWERING;
        self.progress.step();
        if is_in_time { Ok(()) } else { Err(TooLate) }
    }

    /// The app waits for the client, or for frontd, until the guard is dropped.
    pub(crate) fn wait_for_client(&self) -> ClientWait<'_> {
        self.progress.begin_wait();
        ClientWait(&self.progress)
    }

    /// The body of the response has ended.
    pub(crate) fn close(&self) {
        if self.turn(ANSWERING, CLOSING) {
            self.progress.step();
        }
    }

    /// The call has left the app. Returns whether a limit was exceeded before.
    pub(crate) fn leave(&self) -> bool {
        matches!(self.phase.swap(LEFT, Ordering::SeqCst), EXPIRED | STUCK)
    }

    /// Whether a limit is exceeded and the call is still in the app.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), EXPIRED | STUCK)
    }

    /// Whether the response hasn't started and the request hasn't expired.
    pub(crate) fn is_running(&self) -> bool {
        self.phase() == RUNNING
    }

    /// Python code ran on its behalf: no C code holds the GIL.
    pub(crate) fn reach(&self) {
        self.reached.store(true, Ordering::SeqCst);
    }

    /// Whether the caller has to raise the exception. True only once.
    pub(crate) fn is_to_be_raised(&self) -> bool {
        self.is_over() && !self.raised.swap(true, Ordering::SeqCst)
    }

    /// Whether the caller has to log the stack. True only once.
    pub(crate) fn is_to_be_logged(&self) -> bool {
        !self.logged.swap(true, Ordering::SeqCst)
    }

    /// Whether the grace period is over.
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

/// Whether the client is still connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Waits,
    Gone,
}

/// The app waits for the client, or for frontd, until this is dropped. That time doesn't count as idle.
#[derive(Debug)]
pub(crate) struct ClientWait<'a>(&'a Progress);

impl Drop for ClientWait<'_> {
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
