//! Misbehaving WebSocket clients: other clients mustn't be affected.

use std::time::Duration;

use tests::client::Client;
use tests::websocket::{Received, WebSocket};
use tokio::time::{sleep, timeout};

use super::super::load::PROTOCOLS;
use super::super::site::App;
use super::Chaos;

/// The number of concurrent clients.
const CROWD: usize = 12;
/// The interval between two bytes, or two messages, of a slow client, and their number.
const GAP: Duration = Duration::from_millis(100);
const STEPS: usize = 30;
/// More than a client may send in 20 s.
const PINGS: usize = 2500;
/// How long to wait for what the server does about it.
const LONGEST: Duration = Duration::from_secs(30);
/// A masked binary message of 100 bytes, without its payload.
const BEGIN: [u8; 6] = [0x82, 0x80 | 100, 0, 0, 0, 0];

/// What such a client does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// One half sends a message byte by byte, the other half reads a flood of messages one by one. All disconnect
    /// before they are done.
    Slow,
    /// Disconnects in the middle of a message, with others under way.
    Vanishing,
    /// Sends pings until it is disconnected.
    Flooding,
}

impl Chaos<'_> {
    pub(super) fn bad_sockets(&mut self, manner: Manner) -> anyhow::Result<()> {
        let app = App::Async;
        for number in 0..CROWD {
            let client = self.stack.client(app.name(), PROTOCOLS[number % PROTOCOLS.len()])?;
            let (id, is_even) = (self.book.number(), (number / PROTOCOLS.len()).is_multiple_of(2));
            self.crowd.spawn(async move {
                let _its_outcome_does_not_matter = misbehave(&client, id, manner, is_even).await;
            });
        }
        Ok(())
    }
}

async fn misbehave(client: &Client, id: u64, manner: Manner, is_even: bool) -> anyhow::Result<()> {
    let reads = matches!(manner, Manner::Slow) && is_even;
    let path = if reads { "/flood" } else { "/echo" };
    let mut socket = timeout(LONGEST, WebSocket::open(client, &format!("{path}?id={id}"))).await??;
    match manner {
        Manner::Slow if reads => {
            for _ in 0..STEPS {
                socket.receive().await?;
                sleep(GAP).await;
            }
        }
        Manner::Slow => {
            socket.send_raw(&BEGIN).await?;
            for _ in 0..STEPS {
                socket.send_raw(b"x").await?;
                sleep(GAP).await;
            }
        }
        Manner::Vanishing => {
            for number in 0..10 {
                socket.send_text(&format!("{id}:{number}")).await?;
            }
            socket.send_raw(&BEGIN).await?;
        }
        Manner::Flooding => {
            socket.send_pings(PINGS).await?;
            let until_it_closes = async {
                while !matches!(socket.receive().await?, Received::Close(_)) {}
                anyhow::Ok(())
            };
            timeout(LONGEST, until_it_closes).await??;
        }
    }
    Ok(())
}
