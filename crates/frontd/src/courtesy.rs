//! Lets other threads run before a busy shard goes to sleep.
//!
//! A shard that sleeps after each handful of requests is woken for the next handful a few microseconds later,
//! by a client or a worker that is as busy: with all on the same cores, changes of threads and wake-ups were
//! a third of frontd's time. When it steps back once instead, what it has just sent is worked on meanwhile,
//! and it comes back to a larger batch. A shard with little to do, or with files only, sleeps at once, which keeps
//! latency low.

use std::cell::Cell;
use std::thread;

/// Requests for apps in one turn of the event loop from which on a shard counts as busy.
const BUSY: u32 = 3;

thread_local! {
    /// Requests for apps since this shard last went to sleep.
    static REQUESTS: Cell<u32> = const { Cell::new(0) };
}

/// A request goes to an app, on this thread.
pub(crate) fn request() {
    REQUESTS.set(REQUESTS.get() + 1);
}

/// This thread is about to sleep.
pub(crate) fn before_sleep() {
    if REQUESTS.take() >= BUSY {
        thread::yield_now();
    }
}
