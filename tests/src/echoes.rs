//! Numbered messages over a WebSocket, each of which has to return exactly once and in order.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{sleep, timeout};

use crate::websocket::{Received, WebSocket};

/// A message that doesn't return within this time is lost. It is longer than a frozen worker may live.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many messages, and how many of their bytes, are under way at most.
const WINDOW: usize = 8;
const WINDOW_BYTES: usize = 64 << 10;
/// The lengths of messages around the limits of frames and buffers. Most are short.
const LENGTHS: [usize; 5] = [0, 100, 126, 4000, 70_000];
/// The longest pause between two messages.
const PAUSE_MILLISECONDS: u64 = 40;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All messages returned, and the server confirmed the close.
    Complete,
    /// The server closed it with this code. Every message that had returned until then was the right one.
    Closed(Option<u16>),
    /// Another message than the one that was due.
    Wrong(String),
    /// The connection ended without a close frame.
    Cut(String),
    /// A message didn't return.
    Silent,
}

/// Sends that many messages over a WebSocket to an app that returns each, and closes it with the code 1000. Stops
/// earlier if `stop` says so. Returns how many messages returned.
pub async fn exchange(
    socket: &mut WebSocket,
    id: u64,
    count: u64,
    random: &mut Rng,
    stop: impl Fn() -> bool,
) -> (u64, Ended) {
    let mut echoes = Echoes { socket, id, sent: 0, returned: 0, due: VecDeque::new() };
    let ended = echoes.all(count, random, stop).await.err().unwrap_or(Ended::Complete);
    (echoes.returned, ended)
}

struct Echoes<'a> {
    socket: &'a mut WebSocket,
    id: u64,
    sent: u64,
    returned: u64,
    due: VecDeque<Received>,
}

impl Echoes<'_> {
    async fn all(&mut self, count: u64, random: &mut Rng, stop: impl Fn() -> bool) -> Result<(), Ended> {
        while self.sent < count && !stop() {
            let message = self.message(random);
            while !self.has_room(&message) {
                self.await_one().await?;
            }
            if let Err(error) = self.send(&message).await {
                return Err(self.why_it_closed(&error).await);
            }
            self.due.push_back(message);
            sleep(Duration::from_millis(random.u64(..PAUSE_MILLISECONDS))).await;
        }
        while !self.due.is_empty() {
            self.await_one().await?;
        }
        close(self.socket).await
    }

    fn message(&mut self, random: &mut Rng) -> Received {
        self.sent += 1;
        let length = if random.u8(..10) == 0 { LENGTHS[random.usize(..LENGTHS.len())] } else { 0 };
        let text = format!("{}:{}:{}", self.id, self.sent, "x".repeat(length));
        if random.bool() { Received::Text(text) } else { Received::Binary(text.into()) }
    }

    fn has_room(&self, message: &Received) -> bool {
        let bytes: usize = self.due.iter().map(length).sum();
        self.due.is_empty() || self.due.len() < WINDOW && bytes + length(message) <= WINDOW_BYTES
    }

    async fn send(&mut self, message: &Received) -> anyhow::Result<()> {
        match message {
            Received::Text(text) => self.socket.send_text(text).await,
            Received::Binary(bytes) => self.socket.send_binary(bytes).await,
            Received::Close(_) => Ok(()),
        }
    }

    async fn await_one(&mut self) -> Result<(), Ended> {
        let received = receive(self.socket).await?;
        let due = self.due.pop_front();
        if due.as_ref() != Some(&received) {
            return Err(Ended::Wrong(format!("{} instead of {}", show(Some(&received)), show(due.as_ref()))));
        }
        self.returned += 1;
        Ok(())
    }

    /// The connection can't be written to. Its close frame may be there to be read, after other messages.
    async fn why_it_closed(&mut self, error: &anyhow::Error) -> Ended {
        loop {
            match self.await_one().await {
                Ok(()) => {}
                Err(Ended::Cut(_)) => return Ended::Cut(format!("{error:#}")),
                Err(ended) => return ended,
            }
        }
    }
}

/// Returns the next message.
///
/// # Errors
/// If there is none.
pub async fn receive(socket: &mut WebSocket) -> Result<Received, Ended> {
    match timeout(TIMEOUT, socket.receive()).await {
        Ok(Ok(Received::Close(code))) => {
            let _it_may_be_gone = socket.send_close(code.unwrap_or(1000)).await;
            Err(Ended::Closed(code))
        }
        Ok(Ok(received)) => Ok(received),
        Ok(Err(error)) => Err(Ended::Cut(format!("{error:#}"))),
        Err(_) => Err(Ended::Silent),
    }
}

/// Closes it with the code 1000, which the server has to confirm.
///
/// # Errors
/// If another message or code comes.
pub async fn close(socket: &mut WebSocket) -> Result<(), Ended> {
    if let Err(error) = socket.send_close(1000).await {
        return Err(receive(socket).await.err().unwrap_or_else(|| Ended::Cut(format!("{error:#}"))));
    }
    match receive(socket).await {
        Err(Ended::Closed(Some(1000))) => Ok(()),
        Err(ended) => Err(ended),
        Ok(more) => Err(Ended::Wrong(format!("{} after the last message", show(Some(&more))))),
    }
}

fn length(message: &Received) -> usize {
    match message {
        Received::Text(text) => text.len(),
        Received::Binary(bytes) => bytes.len(),
        Received::Close(_) => 0,
    }
}

fn show(message: Option<&Received>) -> String {
    match message {
        None => "nothing".to_owned(),
        Some(Received::Text(text)) => format!("{} bytes: {:?}", text.len(), text.get(..40).unwrap_or(text)),
        Some(Received::Binary(bytes)) => {
            format!("{} bytes: b\"{}\"", bytes.len(), bytes[..bytes.len().min(40)].escape_ascii())
        }
        Some(Received::Close(code)) => format!("a close frame with {code:?}"),
    }
}
