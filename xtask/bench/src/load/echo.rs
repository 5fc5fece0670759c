//! WebSockets that send a message, and wait until it returns before they send the next one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::{join_all, try_join_all};

use super::Load;
use super::socket::Socket;
use crate::stack::Stack;

const SOCKETS: usize = 64;
const PATH: &str = "/ws/echo";
const MESSAGE: &[u8; 64] = b"a message of 64 bytes, as short as most of those in a live chat.";

/// The clients.
#[derive(Debug)]
pub(crate) struct Echo(Vec<Socket>);

#[derive(Default)]
struct Tally {
    latencies: Vec<u64>,
    error: Option<anyhow::Error>,
}

impl Echo {
    pub(crate) async fn connect(stack: &Stack) -> anyhow::Result<Self> {
        let sockets = (0..SOCKETS).map(|_| Socket::connect(stack.http, PATH));
        Ok(Self(try_join_all(sockets).await?))
    }

    /// Sends messages for that long.
    pub(crate) async fn run(mut self, lasting: Duration) -> anyhow::Result<Load> {
        let until = Instant::now() + lasting;
        let tallies = join_all(self.0.iter_mut().map(|socket| talk(socket, until))).await;
        let (mut latencies, mut errors) = (Vec::new(), Vec::new());
        for tally in tallies {
            latencies.extend(tally.latencies);
            errors.extend(tally.error);
        }
        let first = errors.first().map(|error| format!("{error:#}")).unwrap_or_default();
        Load::of(latencies, errors.len() as u64, lasting)
            .with_context(|| format!("no message was returned: {first}"))
    }
}

/// A socket that fails is not opened again.
async fn talk(socket: &mut Socket, until: Instant) -> Tally {
    let mut tally = Tally::default();
    while tally.error.is_none() {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        match send_and_receive(socket).await {
            Ok(()) => tally.latencies.extend(u64::try_from(begun.elapsed().as_micros())),
            Err(error) => tally.error = Some(error),
        }
    }
    tally
}

async fn send_and_receive(socket: &mut Socket) -> anyhow::Result<()> {
    socket.send(MESSAGE).await?;
    let answer = socket.receive().await?;
    ensure!(answer == MESSAGE, "another message returned: {}", String::from_utf8_lossy(answer));
    Ok(())
}
