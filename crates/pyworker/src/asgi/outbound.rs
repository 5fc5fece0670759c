//! The body of a streamed response, between the app, which never waits in `send` while there is room, and the call
//! that carries it to frontd.

use std::collections::VecDeque;
use std::pin::pin;

use api::runner::Header;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::link::active::{ActiveRequest, Disconnected};
use crate::link::body::Download;

/// The number of bytes from which on `send` waits.
const HIGH_WATER: usize = 64 << 10;
/// The number of bytes below which it continues.
const LOW_WATER: usize = 16 << 10;

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    size: usize,
    end: Option<End>,
}

/// How a body ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// It is complete, and these follow.
    Complete(Vec<Header>),
    /// The client has to notice that it isn't complete.
    Cut(&'static str),
}

enum Next {
    Chunk(Bytes),
    End(End),
}

impl Outbound {
    /// A body that begins with these chunks.
    pub(super) fn with(chunks: Vec<Bytes>) -> Self {
        let size = chunks.iter().map(Bytes::len).sum();
        let state = State { chunks: chunks.into(), size, end: None };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a chunk.
    pub(super) fn push(&self, chunk: Bytes) {
        let mut state = self.state.lock();
        state.size += chunk.len();
        state.chunks.push_back(chunk);
        drop(state);
        self.changed.notify_one();
    }

    /// Ends the body.
    pub(super) fn end(&self, end: End) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_one();
    }

    /// Whether `send` has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.state.lock().size >= HIGH_WATER
    }

    /// Whether a `send` that waits may continue.
    pub(super) fn has_room(&self) -> bool {
        self.state.lock().size < LOW_WATER
    }

    /// Sends the body until its end. `made_room` is called after each chunk.
    ///
    /// # Errors
    /// If the client disconnects.
    pub(super) async fn deliver(
        &self,
        active: &ActiveRequest,
        made_room: impl Fn(),
    ) -> Result<(), Disconnected> {
        let mut download = {
            // While frontd opens the call, the app isn't idle.
            let _waits = active.deadline.wait_for_client();
            Download::open(active, None).await?
        };
        loop {
            match active.unless_gone(self.next()).await? {
                Next::Chunk(chunk) => {
                    download.send(active, chunk).await?;
                    made_room();
                }
                Next::End(End::Complete(trailers)) if trailers.is_empty() => return Ok(()),
                Next::End(End::Complete(trailers)) => return download.send_trailers(active, trailers).await,
                Next::End(End::Cut(why)) => {
                    active.cut(why);
                    return Ok(());
                }
            }
        }
    }

    async fn next(&self) -> Next {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(next) = self.state.lock().next() {
                return next;
            }
            changed.await;
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Next> {
        match self.chunks.pop_front() {
            Some(chunk) => {
                self.size -= chunk.len();
                Some(Next::Chunk(chunk))
            }
            None => self.end.clone().map(Next::End),
        }
    }
}
