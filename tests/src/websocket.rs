//! A WebSocket client (RFC 6455) over HTTP/1.1, with or without TLS, and over HTTP/2 (RFC 8441). It offers no
//! extensions.

mod frame;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use hyper::ext::Protocol as Extended;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::frame::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT};
use crate::client::{Answer, Body, Client, Protocol, empty};
use crate::connection::{Connection, SendError};

/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The most connections to try while the server closes them before the handshake is sent.
const TRIES: usize = 20;
const READ: usize = 16 << 10;

/// An open WebSocket. Dropping it closes the connection without a close frame.
pub struct WebSocket {
    io: TokioIo<Upgraded>,
    input: BytesMut,
    /// The opcode and the beginning of a message that arrives in fragments.
    fragments: Option<(u8, BytesMut)>,
    pings: Arc<AtomicU64>,
    /// Of HTTP/2: without it, the connection would end.
    _connection: Connection,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// A close frame, with its code.
    Close(Option<u16>),
}

/// Why no WebSocket could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The handshake got another response.
    #[error("the handshake was refused with {status}: {body}")]
    Refused {
        /// Its status.
        status: u16,
        /// Its body.
        body: String,
    },
    /// The handshake got no response.
    #[error("the handshake got no response")]
    NoResponse(#[source] anyhow::Error),
}

impl WebSocket {
    /// Opens a WebSocket on a connection of its own. If the server closes the connection before the handshake is sent,
    /// tries again on another one.
    ///
    /// # Errors
    /// If the server doesn't accept.
    pub async fn open(client: &Client, path: &str) -> Result<Self, OpenError> {
        let mut last = None;
        for _ in 0..TRIES {
            let mut connection = client.connect().await.map_err(OpenError::NoResponse)?;
            if client.protocol() == Protocol::Http2 {
                connection.allows_websockets().await.map_err(OpenError::NoResponse)?;
            }
            match connection.send(handshake(client, path)).await {
                Ok(response) => return Self::accepted(connection, response).await,
                Err(error @ (SendError::NotSent(_) | SendError::Refused(_))) => last = Some(error),
                Err(error @ SendError::Lost(_)) => return Err(OpenError::NoResponse(error.into())),
            }
        }
        Err(OpenError::NoResponse(last.map_or_else(|| anyhow::anyhow!("no try"), Into::into)))
    }

    async fn accepted(
        connection: Connection,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<Self, OpenError> {
        let accepted = match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                response.headers().get("sec-websocket-accept").is_some_and(|it| it == ACCEPT)
            }
            status => connection.is_http2() && status == StatusCode::OK,
        };
        if !accepted {
            let answer = Answer::read(response).await.map_err(OpenError::NoResponse)?;
            return Err(OpenError::Refused { status: answer.status.as_u16(), body: answer.text() });
        }
        let upgraded = hyper::upgrade::on(response).await;
        let io = upgraded.context("take over the connection").map_err(OpenError::NoResponse)?;
        Ok(Self {
            io: TokioIo::new(io),
            input: BytesMut::new(),
            fragments: None,
            pings: Arc::default(),
            _connection: connection,
        })
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn send_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.send(TEXT, text.as_bytes()).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.send(BINARY, bytes).await
    }

    /// Sends pings without payload, in one write.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn send_pings(&mut self, count: usize) -> anyhow::Result<()> {
        let mut output = BytesMut::new();
        for _ in 0..count {
            frame::write(&mut output, PING, b"");
        }
        self.write(&output).await
    }

    /// Sends any bytes, such as a part of a frame.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.write(bytes).await
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut output = BytesMut::new();
        frame::write(&mut output, opcode, payload);
        self.write(&output).await
    }

    async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.io.write_all(bytes).await.context("write to a WebSocket")?;
        self.io.flush().await.context("write to a WebSocket")
    }

    /// Returns the next message, or the close frame, and answers pings meanwhile.
    ///
    /// # Errors
    /// If the connection ended without a close frame, or the server violated the protocol.
    pub async fn receive(&mut self) -> anyhow::Result<Received> {
        loop {
            while let Some(frame) = frame::take(&mut self.input)? {
                if let Some(received) = self.handle(frame).await? {
                    return Ok(received);
                }
            }
            self.input.reserve(READ);
            let count = self.io.read_buf(&mut self.input).await.context("read from a WebSocket")?;
            ensure!(count > 0, "the connection of a WebSocket ended without a close frame");
        }
    }

    async fn handle(&mut self, frame: Frame) -> anyhow::Result<Option<Received>> {
        let Frame { opcode, is_final, payload } = frame;
        match opcode {
            PING => {
                self.pings.fetch_add(1, Ordering::Relaxed);
                // The server may have closed already: then its close frame is next.
                let _closed = self.send(PONG, &payload).await;
                Ok(None)
            }
            PONG => Ok(None),
            CLOSE => Ok(Some(Received::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))))),
            TEXT | BINARY | CONTINUATION => self.part(opcode, is_final, &payload),
            _ => bail!("the server sent a frame with the opcode {opcode}"),
        }
    }

    fn part(&mut self, opcode: u8, is_final: bool, payload: &[u8]) -> anyhow::Result<Option<Received>> {
        ensure!((opcode == CONTINUATION) == self.fragments.is_some(), "a fragment out of place");
        let (opcode, mut message) = self.fragments.take().unwrap_or((opcode, BytesMut::new()));
        message.put_slice(payload);
        if !is_final {
            self.fragments = Some((opcode, message));
            return Ok(None);
        }
        let message = message.freeze();
        Ok(Some(match opcode {
            TEXT => Received::Text(String::from_utf8(message.into()).context("a text in UTF-8")?),
            _ => Received::Binary(message),
        }))
    }

    /// Sends a close frame with that code.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn send_close(&mut self, code: u16) -> anyhow::Result<()> {
        self.send(CLOSE, &code.to_be_bytes()).await
    }

    /// The number of pings that the server has sent. It keeps counting.
    #[must_use]
    pub fn pings(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pings)
    }
}

fn handshake(client: &Client, path: &str) -> Request<Body> {
    let request = Request::builder().uri(path).header("sec-websocket-version", "13");
    let request = if client.protocol() == Protocol::Http2 {
        request.method(Method::CONNECT).extension(Extended::from_static("websocket"))
    } else {
        request
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
            .header("sec-websocket-key", KEY)
    };
    request.body(empty()).expect("a path that a URI may have")
}
