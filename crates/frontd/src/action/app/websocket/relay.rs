//! Relays messages between a client and a worker, until one of them leaves.

mod clock;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use websocket::deflate::Deflate;
use websocket::{Close, Event, Message, Reader, Step, Violation, Writer};

use self::clock::Clock;
use super::output::Output;
use super::room::Room;
use crate::backend::{Socket, SocketEvent};
use crate::limits::quota::Quota;
use crate::observe::metrics::SocketMetrics;

/// How many pings a client may send between two checks.
const PINGS_MAX: u32 = 2000;

/// How long a client may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait until the client closes a connection that was shut down.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes per read.
const READ: usize = 64 * 1024;

/// After how many steps other tasks get their turn.
const MAX_STEPS: usize = 16;

thread_local! {
    /// What was read last. It is shared by all sockets of a shard, so that idle ones need no buffers.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// The limits of one WebSocket.
pub(super) struct Limits {
    /// Size of a message, in bytes.
    pub(super) message: usize,
    /// How long the client may read nothing.
    pub(super) send_timeout: Duration,
    /// What waits for the connection.
    pub(super) memory: Arc<Quota>,
    /// Messages that are arriving from the client's address.
    pub(super) messages: Arc<Quota>,
    /// Cancelled when the drain begins.
    pub(super) drain: CancellationToken,
    /// Cancelled at its end.
    pub(super) drained: CancellationToken,
}

/// What happened on a WebSocket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The code of the first close frame. 1006 if there was none.
    pub(super) code: u16,
    /// Bytes of complete messages.
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// One WebSocket. Resolves once its connection is over.
pub(super) struct Relay<IO> {
    io: IO,
    socket: Socket,
    reader: Reader,
    writer: Writer,
    /// Bytes that were read, and can't be processed yet.
    unread: Vec<u8>,
    /// The reader has something left to do, even if no byte is unread.
    is_reader_full: bool,
    /// The last attempt to read found nothing that has arrived.
    has_read_all: bool,
    output: Output,
    /// A message that waits for credit of the worker.
    waiting: Option<(Bytes, bool)>,
    room: Room,
    stage: Stage,
    clock: Clock,
    /// Resolves when the drain begins, and once more at its end.
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    drained: CancellationToken,
    /// The drain has begun: the WebSocket is closed as soon as no message to the client is under way.
    is_leaving: bool,
    metrics: SocketMetrics,
    report: Report,
}

/// How far the closing handshake is (RFC 6455, section 7).
///
/// ```text
///   Open ── we close ──▶ Closing ── the client has closed ──▶ Closed ── all is written ──▶ Shut ──▶ end
///     └──────── the client closes, or violates the protocol ────▲
/// ```
///
/// The end of the connection and the deadline of each stage end it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our close frame is on its way. Until the client has it, it may send messages, which the worker gets if it hasn't
    /// closed the WebSocket itself.
    Closing,
    /// Nothing more is sent or expected.
    Closed,
    /// The connection is shut down, which the client hasn't noticed yet.
    Shut,
}

/// The connection is over.
struct Ended;

impl<IO: AsyncRead + AsyncWrite + Unpin> Relay<IO> {
    pub(super) fn new(
        io: IO,
        socket: Socket,
        deflate: Option<&Deflate>,
        limits: Limits,
        metrics: SocketMetrics,
    ) -> Self {
        let Limits { message, send_timeout, memory, messages, drain, drained } = limits;
        socket.count_in(&memory);
        Self {
            io,
            socket,
            reader: Reader::new(message, deflate),
            writer: Writer::new(deflate),
            unread: Vec::new(),
            is_reader_full: false,
            has_read_all: false,
            output: Output::default(),
            waiting: None,
            room: Room::new(messages),
            stage: Stage::Open,
            clock: Clock::new(send_timeout, memory),
            drain: Box::pin(drain.cancelled_owned()),
            drained,
            is_leaving: false,
            metrics,
            report: Report { code: Close::ABNORMAL, ..Report::default() },
        }
    }

    /// Does what can be done without waiting. Returns whether there may be more to do.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let wrote = self.write(cx)?;
        let sent = self.take_from_worker();
        let left = self.leave();
        let forwarded = self.forward();
        let read = self.read(cx)?;
        // Last, so that a client is judged by all that has arrived.
        let ticked = self.tick(cx)?;
        Ok(wrote || sent || left || forwarded || read || ticked)
    }

    /// Handles what is due.
    fn tick(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut ticked = false;
        while self.clock.timer.as_mut().poll(cx).is_ready() {
            ticked = true;
            let now = Instant::now();
            if self.clock.is_overdue(now) {
                return Err(Ended);
            }
            if self.clock.ping_at <= now {
                let mut pings = false;
                if self.stage == Stage::Open {
                    if self.clock.is_silent() && self.has_read_all {
                        self.socket.close(Close::ABNORMAL, "");
                        self.close(Close::INTERNAL_ERROR, "no response to a ping");
                        self.finish();
                    } else if !self.clock.is_busy && self.output.has_room() {
                        self.writer.ping(self.output.bytes());
                        pings = true;
                    }
                }
                self.clock.checked(now, pings);
            }
            self.clock.arm();
        }
        Ok(ticked)
    }

    /// Writes to the client, and shuts the connection down after the last frame.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let (wrote, done) = self.output.poll_write(cx, &mut self.io);
        if wrote && self.clock.blocked_since.take().is_some() {
            // Its response to a ping may come after much that it hasn't read yet.
            self.clock.heard = true;
        }
        match done {
            Poll::Ready(done) => done.map_err(|_| Ended)?,
            Poll::Pending => {
                self.clock.blocked();
                return Ok(wrote);
            }
        }
        self.clock.blocked_since = None;
        if self.stage == Stage::Closed
            && let Poll::Ready(shut) = Pin::new(&mut self.io).poll_shutdown(cx)
        {
            shut.map_err(|_| Ended)?;
            self.stage = Stage::Shut;
            self.clock.end_within(LINGER);
            return Ok(true);
        }
        Ok(wrote)
    }

    /// Takes what the worker has sent. Returns whether there was anything.
    fn take_from_worker(&mut self) -> bool {
        let mut any = false;
        while self.output.has_room()
            && let Some(event) = self.socket.next()
        {
            any = true;
            match event {
                SocketEvent::Message { payload, is_text, is_last } if self.stage == Stage::Open => {
                    self.writer.message(self.output.bytes(), &payload, is_text, !is_last);
                    self.report.sent += payload.len() as u64;
                    if is_last {
                        self.metrics.sent.inc();
                    }
                }
                SocketEvent::Message { .. } => {}
                SocketEvent::Close { code, reason } => {
                    let code = u16::try_from(code).unwrap_or_default();
                    let code = if code == Close::ABNORMAL { Close::INTERNAL_ERROR } else { code };
                    self.close(code, &reason);
                }
                SocketEvent::Ended => self.close(Close::INTERNAL_ERROR, ""),
                SocketEvent::TooMuch => {
                    self.socket.close(Close::INTERNAL_ERROR, "");
                    self.close(Close::INTERNAL_ERROR, "");
                }
                SocketEvent::Broken => self.close(Close::RESTART, ""),
            }
        }
        any
    }

    /// Follows the drain: notes its beginning, and closes the WebSocket at its end.
    fn follow_drain(&mut self, cx: &mut Context<'_>) {
        if !self.is_leaving && self.drain.as_mut().poll(cx).is_ready() {
            self.is_leaving = true;
            self.drain = Box::pin(self.drained.clone().cancelled_owned());
        }
        if self.is_leaving && self.drain.as_mut().poll(cx).is_ready() {
            self.socket.close(Close::GOING_AWAY, "");
            self.close(Close::GOING_AWAY, "");
        }
    }

    /// Closes the WebSocket during a drain once all that the worker has sent is on its way. The worker isn't told before
    /// the client has closed its side. Returns whether it was closed now.
    fn leave(&mut self) -> bool {
        let leaves = self.is_leaving
            && self.stage == Stage::Open
            && self.output.has_room()
            && self.writer.is_between_messages();
        if leaves {
            self.close(Close::GOING_AWAY, "");
        }
        leaves
    }

    /// Sends more of a message that waits for credit. Returns whether it could.
    fn forward(&mut self) -> bool {
        let Some((payload, is_text)) = self.waiting.take() else { return false };
        let before = payload.len();
        match self.socket.send(payload, is_text) {
            Some(rest) => {
                let sent = rest.len() < before;
                self.waiting = Some((rest, is_text));
                sent
            }
            None => true,
        }
    }

    /// Whether anything from the client can be processed.
    fn reads(&self) -> bool {
        self.waiting.is_none() && self.output.has_room()
    }

    /// Reads from the client. Returns whether there was anything.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        self.has_read_all = false;
        if matches!(self.stage, Stage::Open | Stage::Closing) {
            if !self.reads() {
                return Ok(false);
            }
            if !self.unread.is_empty() || self.is_reader_full {
                let mut unread = std::mem::take(&mut self.unread);
                let (consumed, progress) = self.process(cx, &mut unread);
                unread.drain(..consumed);
                // Without its memory if it is empty.
                self.unread = if unread.is_empty() { Vec::new() } else { unread };
                return Ok(progress);
            }
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Pending => {
                    self.has_read_all = true;
                    return Ok(false);
                }
                Poll::Ready(Err(_)) => return Err(Ended),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Err(Ended),
                Poll::Ready(Ok(())) => {}
            }
            self.clock.heard = true;
            if matches!(self.stage, Stage::Open | Stage::Closing) {
                let bytes = buf.filled_mut();
                let (consumed, _) = self.process(cx, bytes);
                self.unread = bytes[consumed..].to_vec();
            }
            Ok(true)
        })
    }

    /// Processes bytes of the client, until something has to wait. Returns how many, and whether there was anything to do.
    fn process(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> (usize, bool) {
        let (mut consumed, mut progress) = (0, false);
        while matches!(self.stage, Stage::Open | Stage::Closing) && self.reads() {
            let Poll::Ready(room) = self.room.poll(cx, self.reader.held()) else { break };
            progress = true;
            if room == 0 {
                self.fail(Close::TRY_AGAIN_LATER, "too many large messages");
                break;
            }
            match self.reader.read(&mut bytes[consumed..], room) {
                Ok(Step { consumed: more, is_full, event }) => {
                    consumed += more;
                    self.is_reader_full = is_full;
                    match event {
                        Some(event) => self.take_from_client(event),
                        // A large message is decompressed in several steps.
                        None => break,
                    }
                }
                Err(violation) => self.violated(violation),
            }
        }
        if !matches!(self.stage, Stage::Open | Stage::Closing) {
            // The rest doesn't matter.
            self.is_reader_full = false;
            return (bytes.len(), true);
        }
        (consumed, progress)
    }

    fn take_from_client(&mut self, event: Event) {
        match event {
            Event::Message(Message { is_text, payload }) => {
                self.metrics.received.inc();
                self.clock.is_busy = true;
                self.report.received += payload.len() as u64;
                let payload = self.room.complete(payload);
                self.waiting = self.socket.send(payload, is_text).map(|rest| (rest, is_text));
            }
            Event::Ping(_) if self.clock.pings >= PINGS_MAX => self.fail(Close::POLICY, "too many pings"),
            Event::Ping(payload) => {
                self.clock.pings += 1;
                if self.stage == Stage::Open {
                    self.writer.pong(self.output.bytes(), &payload);
                }
            }
            Event::Pong => {}
            Event::Close(close) => {
                self.socket.close(close.code_or_none(), &close.reason);
                if self.stage == Stage::Open {
                    self.report.code = close.code_or_none();
                    self.writer.close(self.output.bytes(), &close);
                }
                self.finish();
            }
        }
    }

    /// Closes our side, unless it is closed. An invalid code stands for none.
    fn close(&mut self, code: u16, reason: &str) {
        if self.stage != Stage::Open {
            return;
        }
        let close = Close::new(code, reason);
        self.writer.close(self.output.bytes(), &close);
        self.report.code = close.code_or_none();
        self.stage = Stage::Closing;
        self.clock.end_within(CLOSE_TIMEOUT);
    }

    /// Closes the connection because of what the client did.
    fn fail(&mut self, code: u16, reason: &str) {
        self.socket.close(code, reason);
        self.close(code, reason);
        self.finish();
    }

    fn violated(&mut self, violation: Violation) {
        tracing::debug!(%violation, "WebSocket closed");
        self.fail(violation.code(), &violation.to_string());
    }

    /// Nothing more is expected from the client.
    fn finish(&mut self) {
        self.stage = Stage::Closed;
        self.clock.end_within(CLOSE_TIMEOUT);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Relay<IO> {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let this = self.get_mut();
        this.socket.register(cx);
        if this.stage == Stage::Open {
            this.follow_drain(cx);
        }
        for _ in 0..MAX_STEPS {
            match this.step(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(Ended) => return Poll::Ready(std::mem::take(&mut this.report)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
