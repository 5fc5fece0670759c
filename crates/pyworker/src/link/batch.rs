//! Decides how many responses are sent at once.
//!
//! Sending each response separately costs a system call, and wakes frontd for a single response. So while
//! more requests are waiting here, responses are held back for a moment. If the next request takes long, the
//! helper sends them (`python/driver`).

use std::time::{Duration, Instant};

/// The largest number of responses that are held back.
const ANSWERS: u32 = 16;

/// How long responses are held back, counted from the start of the first request.
const HOLD: Duration = Duration::from_millis(4);

/// A response that took this long is sent at once, since batching would save comparatively little.
const SLOW: Duration = Duration::from_millis(1);

/// The responses that haven't been sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    answers: u32,
    /// When the first of the requests was started.
    since: Option<Instant>,
}

/// Whether to send the batch now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batched {
    Hold,
    Send,
}

impl Batch {
    /// A request is started.
    pub(crate) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self) -> Batched {
        self.answers += 1;
        let worked = self.since.map_or(Duration::ZERO, |it| it.elapsed());
        if self.answers < ANSWERS && worked < HOLD.min(SLOW * self.answers) {
            return Batched::Hold;
        }
        *self = Self::default();
        Batched::Send
    }

    /// No requests are waiting. Everything is sent while the executor waits for the next.
    pub(crate) fn rest(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many responses a batch is sent if each request takes that long.
    fn sent_after(each: Duration) -> u32 {
        let mut batch = Batch::default();
        batch.begin();
        let mut answers = 0;
        loop {
            batch.since = batch.since.and_then(|it| it.checked_sub(each));
            answers += 1;
            if batch.answered() == Batched::Send {
                assert_eq!(batch.since, None, "the next batch starts empty");
                return answers;
            }
        }
    }

    #[test]
    fn a_batch_is_full_after_a_number_of_responses_or_a_duration() {
        assert_eq!(sent_after(Duration::from_micros(1)), ANSWERS);
        assert_eq!(sent_after(Duration::from_micros(900)), 5);
        assert_eq!(sent_after(Duration::from_millis(2)), 1);
    }
}
