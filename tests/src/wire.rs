//! Raw bytes on a connection, for requests that no client library would send.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection on which the test controls each byte.
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response, as it was framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its head, including the status line.
    pub head: String,
    /// Its body, with chunks joined.
    pub body: Vec<u8>,
}

/// Whether the response may have a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The request was HEAD, so there is none.
    Head,
    /// Any other method.
    Body,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// If nothing is listening.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, unread: Vec::new() })
    }

    /// Writes bytes. It isn't an error if the server closes the connection before it has read all of them.
    ///
    /// # Errors
    /// If the server neither reads nor closes.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let _closed_is_seen_when_read =
            timeout(TIMEOUT, self.stream.write_all(bytes)).await.context("write")?;
        Ok(())
    }

    /// Reads the next response. None if the server closed the connection instead.
    ///
    /// # Errors
    /// If it is cut off, isn't HTTP, or doesn't arrive.
    pub async fn reply(&mut self, asked: Asked) -> anyhow::Result<Option<Reply>> {
        let Some(head) = self.head().await? else { return Ok(None) };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.with_context(|| format!("a status line expected, not {head:?}"))?;
        let bodiless = asked == Asked::Head || status < 200 || status == 204 || status == 304;
        let body = if bodiless { Vec::new() } else { self.body(&head).await? };
        Ok(Some(Reply { status, head, body }))
    }

    async fn head(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<_> = self.unread.drain(..end + 4).collect();
                return Ok(Some(String::from_utf8(head)?));
            }
            if self.more().await? == 0 {
                let left = String::from_utf8_lossy(&self.unread);
                ensure!(self.unread.is_empty(), "closed in the middle of a head: {left:?}");
                return Ok(None);
            }
        }
    }

    async fn body(&mut self, head: &str) -> anyhow::Result<Vec<u8>> {
        let lower = head.to_ascii_lowercase();
        let header = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match (header("transfer-encoding:"), header("content-length:")) {
            (Some("chunked"), None) => self.chunks().await,
            (None, Some(length)) => self.exactly(length.parse()?).await,
            (None, None) => self.rest().await,
            both => bail!("framed by {both:?}: {head:?}"),
        }
    }

    async fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.line().await?.trim(), 16).context("a chunk's size")?;
            body.extend(self.exactly(size).await?);
            ensure!(self.exactly(2).await? == b"\r\n", "a chunk without its end");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                return Ok(String::from_utf8(self.unread.drain(..=end).collect())?);
            }
            ensure!(self.more().await? > 0, "closed in the middle of a line");
        }
    }

    async fn exactly(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.unread.len() < length {
            ensure!(self.more().await? > 0, "closed after {} of {length} bytes of a body", self.unread.len());
        }
        Ok(self.unread.drain(..length).collect())
    }

    async fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        while self.more().await? > 0 {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// A reset also counts as the end: the server closed the connection with unread data.
    async fn more(&mut self) -> anyhow::Result<usize> {
        match timeout(TIMEOUT, self.stream.read_buf(&mut self.unread)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            Ok(read) => read.context("read"),
            Err(_) => bail!("neither answered nor closed within {TIMEOUT:?}"),
        }
    }
}
