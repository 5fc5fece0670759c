//! Misbehaving clients, and a log that isn't read: other clients mustn't be affected.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::question::Question;
use super::super::site::App;
use super::Chaos;

/// The number of concurrent clients.
const CROWD: usize = 30;
/// The interval between two bytes of a slow client, and the number of bytes that it sends.
const GAP: Duration = Duration::from_millis(100);
const BYTES: usize = 30;
/// Much more than a connection's buffers can hold.
const LARGE: usize = 1_500_000;

impl Chaos<'_> {
    /// One third each sends its head, sends its body and reads its response byte by byte. All disconnect
    /// before they are done.
    pub(super) fn slow_clients(&mut self, app: App) -> anyhow::Result<()> {
        for number in 0..CROWD {
            let id = self.book.number();
            let host = format!("Host: {app}.localhost\r\n");
            let (at_once, slowly) = match number % 3 {
                0 => (String::new(), format!("GET /echo?id={id} HTTP/1.1\r\n{host}X-Slow: ")),
                1 => (
                    format!("POST /digest?id={id} HTTP/1.1\r\n{host}Content-Length: {LARGE}\r\n\r\n"),
                    "x".repeat(BYTES),
                ),
                _ => (format!("GET /stream?id={id}&bytes={LARGE} HTTP/1.1\r\n{host}\r\n"), String::new()),
            };
            self.crowd.spawn(dawdle(self.stack.http, at_once, slowly));
        }
        Ok(())
    }

    /// Each requests a long response, and resets the connection once it has started.
    pub(super) async fn vanishing_clients(&mut self, app: App) -> anyhow::Result<()> {
        for number in 0..CROWD {
            let id = self.book.number();
            let path = if number % 2 == 0 { "/drip" } else { "/stream" };
            let request =
                format!("GET {path}?id={id}&bytes={LARGE} HTTP/1.1\r\nHost: {app}.localhost\r\n\r\n");
            self.crowd.spawn(vanish(self.stack.http, request));
        }
        Ok(())
    }

    /// Logging must not wait for the reader of the log.
    pub(super) async fn fill_log(&mut self, app: App) -> anyhow::Result<()> {
        self.log.hold();
        for _ in 0..3 {
            self.ask(app, Question::Loud).await?;
        }
        self.log.release();
        Ok(())
    }
}

/// The outcome doesn't matter: the client is slower than any limit allows, or disconnects.
async fn dawdle(address: SocketAddr, at_once: String, slowly: String) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let _refused = stream.write_all(at_once.as_bytes()).await;
    let mut bytes = slowly.into_bytes().into_iter();
    for _ in 0..BYTES {
        let byte = bytes.next();
        let went_on = match byte {
            Some(byte) => stream.write_all(&[byte]).await,
            None => stream.read_exact(&mut [0]).await.map(drop),
        };
        if went_on.is_err() {
            return;
        }
        sleep(GAP).await;
    }
}

async fn vanish(address: SocketAddr, request: String) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let _refused = stream.write_all(request.as_bytes()).await;
    let _nothing_came = stream.read(&mut [0; 100]).await;
    // If its receive buffer has unread bytes, the kernel resets the connection on close.
}
