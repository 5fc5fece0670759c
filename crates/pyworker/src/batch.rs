//! How many answers are sent at once.
//!
//! To send each by itself costs a system call, and wakes frontd for one answer where it could deal with several. So
//! while more requests wait here an answer is held for a moment: its client waits for it. Should the next request
//! take long, the helper sends it (`driver`).

use std::time::{Duration, Instant};

/// Answers that are held at most.
const ANSWERS: u32 = 16;

/// How long requests are worked on until what was answered meanwhile is sent.
const HOLD: Duration = Duration::from_millis(4);

/// An answer that took so long is sent at once: what is saved would be little of it.
const SLOW: Duration = Duration::from_millis(1);

/// The answers of one thread that are not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    answers: u32,
    /// When the first of its requests was begun.
    since: Option<Instant>,
}

/// Whether it is time to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batched {
    Hold,
    Send,
}

impl Batch {
    /// A request is begun.
    pub(crate) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// One was answered.
    pub(crate) fn answered(&mut self) -> Batched {
        self.answers += 1;
        let worked = self.since.map_or(Duration::ZERO, |it| it.elapsed());
        if self.answers < ANSWERS && worked < HOLD.min(SLOW * self.answers) {
            return Batched::Hold;
        }
        *self = Self::default();
        Batched::Send
    }

    /// Nothing else waits to be worked on: all is sent while this thread waits.
    pub(crate) fn rest(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many answers one is sent whose requests took so long each.
    fn sent_after(each: Duration) -> u32 {
        let mut batch = Batch::default();
        batch.begin();
        let mut answers = 0;
        loop {
            batch.since = batch.since.and_then(|it| it.checked_sub(each));
            answers += 1;
            if batch.answered() == Batched::Send {
                assert_eq!(batch.since, None, "the next begins anew");
                return answers;
            }
        }
    }

    #[test]
    fn a_number_of_answers_or_a_length_of_work_fills_it() {
        assert_eq!(sent_after(Duration::from_micros(1)), ANSWERS);
        assert_eq!(sent_after(Duration::from_micros(900)), 5);
        assert_eq!(sent_after(Duration::from_millis(2)), 1);
    }
}
