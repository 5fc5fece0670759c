//! Memory for a message that is arriving.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use crate::limits::quota::Quota;

/// A message that is smaller isn't counted.
const UNCOUNTED: usize = 64 * 1024;

/// How much is taken at a time.
const STEP: u64 = 256 * 1024;

/// How long a message waits for memory.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The memory of one client's incomplete message, given back on drop.
pub(super) struct Room {
    memory: Arc<Quota>,
    taken: u64,
    wait: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl Room {
    pub(super) fn new(memory: Arc<Quota>) -> Self {
        Self { memory, taken: 0, wait: None }
    }

    /// Ready with how much a message of `held` bytes may grow, or with 0 if there was no memory for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, held: usize) -> Poll<usize> {
        loop {
            if let Some(wait) = &mut self.wait {
                let is_there = ready!(wait.as_mut().poll(cx));
                self.wait = None;
                if !is_there {
                    return Poll::Ready(0);
                }
            }
            let taken = usize::try_from(self.taken).unwrap_or(usize::MAX);
            let left = UNCOUNTED.saturating_add(taken).saturating_sub(held);
            if left > 0 {
                return Poll::Ready(left);
            }
            let more = self.memory.take_up_to(STEP);
            self.taken += more;
            if more == 0 {
                let memory = Arc::clone(&self.memory);
                let room = async move { tokio::time::timeout(MAX_WAIT, memory.room()).await.is_ok() };
                self.wait = Some(Box::pin(room));
            }
        }
    }

    /// The message is complete: it counts until its last part was sent.
    pub(super) fn complete(&mut self, payload: Vec<u8>) -> Bytes {
        let counts = payload.len() > UNCOUNTED;
        let payload = Bytes::from(payload);
        let payload = if counts { self.memory.count(payload) } else { payload };
        self.give_back();
        payload
    }

    fn give_back(&mut self) {
        if self.taken > 0 {
            self.memory.give(std::mem::take(&mut self.taken));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}
