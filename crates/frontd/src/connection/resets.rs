//! Closes an HTTP/2 connection whose client resets too many requests ("rapid reset", CVE-2023-44487).
//!
//! h2 limits streams that are reset before hyper accepts them, and concurrent streams. Neither limits
//! requests that are accepted, sent to an app, and reset at once. hyper can't close a connection with a
//! custom error code, so [`Guarded`] writes that frame between those of h2. It also counts the requests that
//! h2 itself resets.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use h2::Reason;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::connection::http2_frames::Frames;
use crate::observe::metrics::Metrics;

/// How many unanswered requests a connection may reset within [`PERIOD`]. A browser that leaves a page resets
/// all its running requests, somewhat more than a hundred, and may do so several times in a row.
const MAX_RESETS: u32 = 500;

/// Maximum of the additional resets, one for every two answered requests: a proxy carries the requests of
/// many clients.
const MAX_EXTRA_RESETS: u64 = 10_000;

const PERIOD: Duration = Duration::from_secs(10);

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 6.8). The last stream id is the maximum, which means that
/// any request may have been processed, so that the client doesn't retry those it has reset.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0x0b];

/// How many bytes to read and discard at the end. Otherwise, closing would reset the connection, and the
/// client might never see the GOAWAY.
const MAX_DISCARDED: usize = 256 * 1024;

/// The requests of one connection that the client has reset.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    answered: AtomicU64,
    recent: Mutex<Option<Recent>>,
    exceeded: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    since: Instant,
    count: u32,
}

impl Resets {
    /// Runs `answer`, and counts it as reset if it is dropped before it completes. After a first reset, each
    /// request yields once before it does any work, so that one whose reset arrived along with it ends there.
    pub(crate) fn watch<F: Future>(self: Arc<Self>, answer: F) -> impl Future<Output = F::Output> {
        let yields = self.any_recent();
        Watched { answer, yields, unanswered: Unanswered(Some(self)) }
    }

    /// Waits until there were too many resets.
    pub(crate) async fn exceeded(&self) {
        self.exceeded.cancelled().await;
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.is_cancelled()
    }

    fn any_recent(&self) -> bool {
        self.recent.lock().is_some_and(|it| it.since.elapsed() < PERIOD)
    }

    fn count(&self, now: Instant) {
        let mut recent = self.recent.lock();
        let former = recent.filter(|it| now.duration_since(it.since) < PERIOD);
        let Recent { since, count } = former.unwrap_or(Recent { since: now, count: 0 });
        *recent = Some(Recent { since, count: count + 1 });
        let more = self.answered.load(Ordering::Relaxed) / 2;
        if u64::from(count) >= u64::from(MAX_RESETS) + more.min(MAX_EXTRA_RESETS) {
            self.exceeded.cancel();
        }
    }
}

pin_project! {
    /// A request that is being answered. Not an async block, which would hold two copies of the future.
    struct Watched<F> {
        #[pin]
        answer: F,
        yields: bool,
        unanswered: Unanswered,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if std::mem::take(this.yields) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let answer = ready!(this.answer.poll(cx));
        if let Some(resets) = this.unanswered.0.take() {
            resets.answered.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(answer)
    }
}

/// Counts a request as reset if it ends before it is answered.
struct Unanswered(Option<Arc<Resets>>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(resets) = &self.0 {
            resets.count(Instant::now());
        }
    }
}

/// Whether h2 closed the connection because the client did something too often.
pub(crate) fn is_enhance_your_calm(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    cause.is_some_and(|it| it.is_library() && it.reason() == Some(Reason::ENHANCE_YOUR_CALM))
}

/// Whether h2 closed the connection because of input that it couldn't parse, such as a path that isn't UTF-8.
pub(crate) fn is_unreadable(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    cause.is_some_and(|it| {
        let is_unreadable =
            [Reason::PROTOCOL_ERROR, Reason::COMPRESSION_ERROR].map(Some).contains(&it.reason());
        it.is_library() && it.is_go_away() && is_unreadable
    })
}

/// An I/O wrapper that sends GOAWAY and closes the connection once the client has reset too many requests.
#[derive(Debug)]
pub(crate) struct Guarded<IO> {
    io: IO,
    resets: Arc<Resets>,
    frames: Frames,
    client: IpAddr,
    metrics: Arc<Metrics>,
}

impl<IO> Guarded<IO> {
    /// Wraps the connection of `client`.
    pub(crate) fn new(io: IO, resets: Arc<Resets>, client: IpAddr, metrics: Arc<Metrics>) -> Self {
        Self { io, resets, frames: Frames::default(), client, metrics }
    }

    /// Counts and logs the requests that h2 has reset as malformed, by the frames it wrote.
    fn wrote(&mut self, written: &[u8]) {
        for _ in 0..self.frames.follow(written) {
            self.metrics.refused("http2_malformed");
            debug!(client = %self.client, reason = "http2_malformed", "refused a request: reset its stream");
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guarded<IO> {
    /// Sends the GOAWAY, as far as that is possible without waiting.
    fn end(&mut self, cx: &mut Context<'_>) {
        if self.frames.is_between() {
            let _told = Pin::new(&mut self.io).poll_write(cx, &GOAWAY);
            let _sent = Pin::new(&mut self.io).poll_flush(cx);
        }
        let _closed = Pin::new(&mut self.io).poll_shutdown(cx);
        let (mut unread, mut block) = (0, [0; 4096]);
        while unread < MAX_DISCARDED {
            let mut buf = ReadBuf::new(&mut block);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => unread += buf.filled().len(),
                _ => return,
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.resets.is_exceeded() {
            self.end(cx);
            let source = io::Error::new(io::ErrorKind::ConnectionAborted, "too many requests were reset");
            return Poll::Ready(Err(source));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        if let Poll::Ready(Ok(written)) = written {
            self.wrote(&data[..written.min(data.len())]);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        if let Poll::Ready(Ok(mut left)) = written {
            for part in parts {
                let part = &part[..left.min(part.len())];
                left -= part.len();
                self.wrote(part);
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occasional_resets_are_allowed() {
        let (resets, began) = (Resets::default(), Instant::now());
        for period in 0..10 {
            (0..MAX_RESETS).for_each(|_| resets.count(began + PERIOD * period));
        }
        assert!(!resets.is_exceeded());
        resets.count(began + PERIOD * 9);
        assert!(resets.is_exceeded());
    }

    /// A proxy carries the requests of many clients over one connection.
    #[tokio::test]
    async fn a_client_with_more_answered_requests_may_reset_more() {
        let (resets, now) = (Arc::new(Resets::default()), Instant::now());
        for _ in 0..MAX_RESETS {
            Arc::clone(&resets).watch(async {}).await;
        }
        (0..MAX_RESETS + MAX_RESETS / 2).for_each(|_| resets.count(now));
        assert!(!resets.is_exceeded());
        resets.count(now);
        assert!(resets.is_exceeded());
    }

    #[test]
    fn resets_are_always_bounded() {
        let (resets, now) = (Resets::default(), Instant::now());
        resets.answered.store(u64::MAX, Ordering::Relaxed);
        (0..u64::from(MAX_RESETS) + MAX_EXTRA_RESETS).for_each(|_| resets.count(now));
        assert!(!resets.is_exceeded());
        resets.count(now);
        assert!(resets.is_exceeded());
    }

    #[tokio::test]
    async fn an_answered_request_is_no_reset() {
        let resets = Arc::new(Resets::default());
        Arc::clone(&resets).watch(async {}).await;
        assert!(!resets.any_recent());
        let unanswered = Arc::clone(&resets).watch(std::future::pending::<()>());
        drop(tokio::time::timeout(Duration::ZERO, unanswered).await);
        assert!(resets.any_recent());
    }
}
