//! Ends responses that the client doesn't read: a connection whose socket accepts no data, or an HTTP/2
//! stream whose window stays closed.
//!
//! hyper waits for the HTTP/2 window internally, in the task of the exchange. That's why the body records in
//! a task-local whom the exchange waits for: the server (app or disk), or the client, as soon as hyper has
//! received data. A timer only runs while it is the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::body::waiting::{self, WaitingFor};
use crate::limits::quota::Quota;
use crate::visit::client::Backlog;

/// While response memory is full, a closed window is given this fraction of the timeout.
const MEMORY_FULL_DIVISOR: u32 = 10;

/// The same for a socket, since a slow connection may accept no data for some seconds.
const SOCKET_MEMORY_FULL_DIVISOR: u32 = 4;

/// A stream that waits for its turn on a slow connection is given this many timeouts.
const BACKLOG_FACTOR: u32 = 5;

/// A connection that fails if its client reads nothing for too long.
#[derive(Debug)]
pub(crate) struct SendTimeout {
    stream: TcpStream,
    timeout: Duration,
    backlog: Backlog,
    /// The response memory of the client's address. While it or the total is full, the timeout is shorter.
    memory: Arc<Quota>,
    /// Created with the first wait, and armed during one.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the current wait began.
    since: Option<Instant>,
}

impl SendTimeout {
    pub(crate) fn new(stream: TcpStream, timeout: Duration, backlog: Backlog, memory: Arc<Quota>) -> Self {
        Self { stream, timeout, backlog, memory, timer: None, since: None }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.since.take().is_some() {
                self.backlog.set(false);
            }
            return written;
        }
        let short = self.timeout / SOCKET_MEMORY_FULL_DIVISOR;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(short)));
        let since = *self.since.get_or_insert_with(|| {
            self.backlog.set(true);
            let now = Instant::now();
            timer.as_mut().reset(now + short);
            now
        });
        loop {
            ready!(timer.as_mut().poll(cx));
            let limit = if self.memory.is_full() { short } else { self.timeout };
            if since.elapsed() >= limit {
                break;
            }
            timer.as_mut().reset(Instant::now() + short);
        }
        // Also discards the data in the kernel's send buffer.
        let _gone = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        let reason = "the client reads nothing";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl SendTimeout {
    /// The socket.
    pub(crate) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for SendTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SendTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.check(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The send timeout for the streams of one HTTP/2 connection.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) timeout: Duration,
    pub(crate) backlog: Backlog,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// The client read nothing for too long. Dropping the exchange resets the stream.
    Stalled,
}

impl Watch {
    /// Runs an exchange to its end, or until the client has read nothing for too long. `is_memory_full` tells
    /// whether response memory is full.
    pub(crate) fn run<F: Future, S: Fn() -> bool>(
        self,
        exchange: F,
        is_memory_full: S,
    ) -> impl Future<Output = End> {
        let (waiting_for, since, timer) = (WaitingFor::Server, Instant::now(), None);
        let watched = Watched { exchange, watch: self, is_memory_full, waiting_for, since, timer };
        waiting::record(watched)
    }

    fn limit(&self, is_memory_full: impl Fn() -> bool) -> Duration {
        match (is_memory_full(), self.backlog.is_full()) {
            (true, false) => self.timeout / MEMORY_FULL_DIVISOR,
            (false, true) => self.timeout * BACKLOG_FACTOR,
            _ => self.timeout,
        }
    }
}

pin_project! {
    /// A watched exchange. Not an async block, which would hold several copies of the exchange.
    struct Watched<F, S> {
        #[pin]
        exchange: F,
        watch: Watch,
        is_memory_full: S,
        // Whom it waited for when it was last polled.
        waiting_for: WaitingFor,
        // When it began to wait for the client, or when the client last read something.
        since: Instant,
        // Created with the first wait.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F: Future, S: Fn() -> bool> Future for Watched<F, S> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.project();
        if this.exchange.poll(cx).is_ready() {
            return Poll::Ready(End::Done);
        }
        let waiting_for = waiting::current();
        let before = std::mem::replace(this.waiting_for, waiting_for);
        if waiting_for == WaitingFor::Server {
            return Poll::Pending;
        }
        if waiting_for != before {
            *this.since = Instant::now();
        }
        let tick = this.watch.timeout / MEMORY_FULL_DIVISOR;
        let mut timer = this.timer;
        if timer.is_none() {
            timer.set(Some(tokio::time::sleep(tick)));
        }
        let Some(mut timer) = timer.as_pin_mut() else { return Poll::Pending };
        // A timer that is still armed can stay: when it fires, it only checks.
        if before == WaitingFor::Server && timer.is_elapsed() {
            timer.as_mut().reset(*this.since + tick);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if this.since.elapsed() >= this.watch.limit(&*this.is_memory_full) {
                return Poll::Ready(End::Stalled);
            }
            timer.as_mut().reset(Instant::now() + tick);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::body::waiting::{wait_for_client, wait_for_server};

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn watch() -> Watch {
        Watch { timeout: TIMEOUT, backlog: Backlog::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_ends_once_the_client_reads_nothing_and_not_before() {
        let began = Instant::now();
        let exchange = async {
            // The app is slow, which doesn't count.
            tokio::time::sleep(TIMEOUT * 10).await;
            for _ in 0..20 {
                wait_for_client();
                tokio::time::sleep(TIMEOUT / 2).await;
            }
            wait_for_server();
            tokio::time::sleep(TIMEOUT * 10).await;
            wait_for_client();
            std::future::pending::<()>().await;
        };
        assert_eq!(watch().run(exchange, || false).await, End::Stalled);
        let took = began.elapsed();
        assert!((TIMEOUT * 31..TIMEOUT * 31 + TIMEOUT / 5).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_gets_less_time_if_memory_is_full_and_more_if_the_connection_is_full() {
        let stalled = async |watch: &Watch, is_memory_full: bool| {
            let began = Instant::now();
            let exchange = async {
                wait_for_client();
                std::future::pending::<()>().await;
            };
            assert_eq!(watch.clone().run(exchange, || is_memory_full).await, End::Stalled);
            began.elapsed()
        };
        let watch = watch();
        assert!(stalled(&watch, true).await < TIMEOUT / 5);
        watch.backlog.set(true);
        let took = stalled(&watch, false).await;
        assert!((TIMEOUT * 5..TIMEOUT * 6).contains(&took), "{took:?}");
        let took = stalled(&watch, true).await;
        assert!((TIMEOUT..TIMEOUT * 2).contains(&took), "{took:?}");
    }

    /// The error of a connection whose client reads nothing.
    async fn ended(timeout: Duration, memory: Arc<Quota>) -> io::Error {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = SendTimeout::new(stream, timeout, Backlog::default(), memory);
        let block = vec![0; 1 << 20];
        let failed = async {
            loop {
                if let Err(error) = stream.write_all(&block).await {
                    return error;
                }
            }
        };
        failed.await
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_client_reads_nothing_fails_and_sooner_if_memory_is_full() {
        for (used, expected) in [(0, TIMEOUT), (1, TIMEOUT / 4)] {
            let (memory, began) = (Quota::new(1), Instant::now());
            memory.charge(used);
            assert_eq!(ended(TIMEOUT, memory).await.kind(), io::ErrorKind::TimedOut);
            let took = began.elapsed();
            assert!((expected..expected + TIMEOUT / 4).contains(&took), "{took:?}");
        }
    }
}
