//! A request body that fails if the client sends it too slowly.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use config::frontd::Limits;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

/// Maximum time between two reads.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// Extra time in addition to what the minimum rate allows.
const GRACE: Duration = MAX_SILENCE;

/// How long to keep reading from a client after its response, so that it sees the response and stops sending.
const LINGER_TIME: Duration = Duration::from_secs(30);

/// How many bytes to read meanwhile.
const LINGER_BYTES: usize = 32 << 20;

/// A body as a connection receives it, whatever the protocol.
pub(crate) trait Incoming: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B> Incoming for B where B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A body that fails if the client sends nothing for too long, or is too slow overall.
#[derive(Debug)]
pub(crate) struct RequestBody<B> {
    /// `None` once the body was taken.
    incoming: Option<B>,
    pace: BodyPace,
    received: u64,
    /// Created with the first wait: most bodies arrive with their head.
    wait: Option<Wait>,
    failed: bool,
}

/// How fast a body has to arrive.
#[derive(Debug, Clone, Copy)]
struct BodyPace {
    /// In bytes per second. 0 means no minimum.
    rate: u64,
    /// Total time.
    timeout: Duration,
}

/// The time spent waiting for the client. The time that frontd takes itself doesn't count.
#[derive(Debug)]
struct Wait {
    timer: Pin<Box<Sleep>>,
    since: Option<Instant>,
    before: Duration,
}

/// Why a body didn't arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    #[error("the client sent it too slowly")]
    TooSlow,
    #[error(transparent)]
    Broken(BoxError),
}

impl<B: Incoming> RequestBody<B> {
    pub(crate) fn new(incoming: B, limits: &Limits) -> Self {
        let pace = BodyPace { rate: limits.body_rate, timeout: limits.body_timeout };
        Self { incoming: Some(incoming), pace, received: 0, wait: None, failed: false }
    }

    /// Takes the body, to read it elsewhere. An empty one stays.
    pub(crate) fn take(&mut self) -> Self {
        let (incoming, wait) = (self.incoming.take(), self.wait.take());
        Self { incoming, wait, ..*self }
    }

    /// Reads and discards the rest of the body for a while. Over HTTP/1.1, closing a connection while the
    /// client is still sending resets it, and the client may never see the response. Over HTTP/2, many
    /// clients treat the reset of a stream as an error, even with NO_ERROR.
    pub(crate) async fn linger(mut self) {
        let rest = async {
            let mut left = LINGER_BYTES;
            while let Some(Ok(frame)) = self.frame().await {
                let read = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(read) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        let _client_sends_on = tokio::time::timeout(LINGER_TIME, rest).await;
    }
}

impl BodyPace {
    /// The deadline of a wait that began at `since`, after earlier waits of `before` in total.
    fn deadline(self, since: Instant, before: Duration, received: u64) -> Instant {
        let by_rate = received.checked_div(self.rate).map(|it| GRACE.saturating_add(Duration::from_secs(it)));
        let in_all = by_rate.unwrap_or(Duration::MAX).min(self.timeout);
        since + in_all.saturating_sub(before).min(MAX_SILENCE)
    }
}

impl Wait {
    fn new() -> Self {
        Self { timer: Box::pin(tokio::time::sleep(MAX_SILENCE)), since: None, before: Duration::ZERO }
    }

    /// Ready when the wait is too long. `deadline` computes the deadline from the start of this wait and the
    /// time of earlier ones.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: impl Fn(Instant, Duration) -> Instant) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = deadline(since, self.before);
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.before += since.elapsed();
        }
    }
}

impl<B: Incoming> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Self { incoming, pace, received, wait, failed } = &mut *self;
        let Some(incoming) = incoming else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) {
            if let Some(wait) = wait {
                wait.end();
            }
            if let Some(Ok(frame)) = &frame {
                *received += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            return Poll::Ready(frame.map(|it| it.map_err(|error| RequestBodyError::Broken(error.into()))));
        }
        let wait = wait.get_or_insert_with(Wait::new);
        wait.poll(cx, |since, before| pace.deadline(since, before, *received)).map(|()| {
            *failed = true;
            Some(Err(RequestBodyError::TooSlow))
        })
    }

    /// A body that was too slow isn't read any further.
    fn is_end_stream(&self) -> bool {
        self.failed || self.incoming.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_has_to_arrive_at_its_rate_and_within_its_time() {
        let second = Duration::from_secs(1);
        let pace = BodyPace { rate: 1000, timeout: second * 3600 };
        let now = Instant::now();
        for (before, received, left) in [
            (0, 0, 60),
            (0, 1_000_000, 60),
            (59, 0, 1),
            (61, 0, 0),
            (61, 10_000, 9),
            (1000, 1_000_000, 60),
            (1030, 1_000_000, 30),
            (3590, 100_000_000, 10),
        ] {
            let deadline = pace.deadline(now, second * before, received);
            assert_eq!(deadline - now, second * left, "{received} bytes in {before} s");
        }
        let pace = BodyPace { rate: 0, ..pace };
        assert_eq!(pace.deadline(now, second * 100, 0) - now, MAX_SILENCE);
    }
}
