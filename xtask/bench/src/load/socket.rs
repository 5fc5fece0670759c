//! A minimal WebSocket client (RFC 6455): text messages in a single frame, no extensions.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::HOST;

/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const LONGEST_HEAD: usize = 16 << 10;
/// All messages here are much shorter.
const LONGEST_PAYLOAD: usize = 1 << 16;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    input: Vec<u8>,
    /// How much of the input has been returned already.
    used: usize,
    output: Vec<u8>,
}

/// A frame in the input.
#[derive(Debug, PartialEq)]
struct Frame {
    opcode: u8,
    payload: Range<usize>,
}

impl Socket {
    /// Opens a WebSocket without TLS.
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        tcp.set_nodelay(true)?;
        let mut socket = Self { tcp, input: Vec::new(), used: 0, output: Vec::new() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        socket.tcp.write_all(request.as_bytes()).await.context("send a handshake")?;
        socket.finish_handshake().await?;
        Ok(socket)
    }

    /// Sends a text message.
    pub(crate) async fn send(&mut self, text: &[u8]) -> anyhow::Result<()> {
        write_frame(&mut self.output, TEXT, text)?;
        self.flush().await
    }

    /// Returns the next text message. Answers pings meanwhile.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<&[u8]> {
        loop {
            let Some(Frame { opcode, payload }) = frame(&self.input, self.used)? else {
                self.read().await?;
                continue;
            };
            self.used = payload.end;
            match opcode {
                TEXT => return Ok(&self.input[payload]),
                PING => {
                    write_frame(&mut self.output, PONG, &self.input[payload])?;
                    self.flush().await?;
                }
                PONG => {}
                CLOSE => bail!("the server closed the WebSocket: {:?}", &self.input[payload]),
                _ => bail!("the server sent a frame of type {opcode}"),
            }
        }
    }

    async fn finish_handshake(&mut self) -> anyhow::Result<()> {
        let end = loop {
            if let Some(end) = find(&self.input, b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.input.len() < LONGEST_HEAD, "the head of the handshake's answer is too long");
            self.read().await?;
        };
        let head = &self.input[..end];
        let good = head.starts_with(b"HTTP/1.1 101 ") && find(head, ACCEPT).is_some();
        ensure!(good, "the handshake was refused: {}", String::from_utf8_lossy(head));
        self.used = end;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
        let count = self.tcp.read_buf(&mut self.input).await.context("read from a WebSocket")?;
        ensure!(count > 0, "the server closed the connection of a WebSocket");
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.tcp.write_all(&self.output).await.context("write to a WebSocket")?;
        self.output.clear();
        Ok(())
    }
}

/// Returns the frame at `start`, or None if it isn't complete.
fn frame(input: &[u8], start: usize) -> anyhow::Result<Option<Frame>> {
    let bytes = &input[start..];
    let [first, second, ..] = *bytes else { return Ok(None) };
    ensure!(second & MASKED == 0, "the server sent a masked frame");
    ensure!(first & !0xf == FINAL, "the server sent a fragment, or a frame of an extension");
    let (head, length) = match (second, bytes) {
        (126, &[_, _, high, low, ..]) => (4, usize::from(u16::from_be_bytes([high, low]))),
        (127, _) => bail!("the server sent a frame of more than {LONGEST_PAYLOAD} bytes"),
        (126, _) => return Ok(None),
        (length, _) => (2, usize::from(length)),
    };
    let payload = start + head..start + head + length;
    Ok((payload.end <= input.len()).then_some(Frame { opcode: first & 0xf, payload }))
}

/// Appends a masked frame.
fn write_frame(output: &mut Vec<u8>, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
    let length = u16::try_from(payload.len()).context("the length of a message")?;
    output.push(FINAL | opcode);
    match u8::try_from(length) {
        Ok(length @ ..126) => output.push(MASKED | length),
        _ => {
            output.push(MASKED | 126);
            output.extend(length.to_be_bytes());
        }
    }
    let mask = fastrand::u32(..).to_ne_bytes();
    output.extend(mask);
    output.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(())
}

/// The position of `part`.
pub(super) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_from_a_server() {
        let check = |bytes: &[u8], start, expected| assert_eq!(frame(bytes, start).unwrap(), expected);
        let whole = [0x81, 2, b'o', b'k', 0x89, 0];
        check(&whole, 0, Some(Frame { opcode: TEXT, payload: 2..4 }));
        check(&whole, 4, Some(Frame { opcode: PING, payload: 6..6 }));
        check(&whole, 6, None);
        check(&whole[..3], 0, None);
        let mut long = vec![0x81, 126, 1, 0];
        check(&long, 0, None);
        long.extend([b'x'; 256]);
        check(&long, 0, Some(Frame { opcode: TEXT, payload: 4..260 }));
        assert!(frame(&[0x81, 0x82, 0, 0, 0, 0], 0).is_err());
        assert!(frame(&[0xc1, 1, b'x'], 0).is_err());
        assert!(frame(&[0x81, 127], 0).is_err());
    }

    #[test]
    fn frames_to_a_server_are_masked() {
        let check = |length: usize, head: &[u8]| {
            let (payload, mut output) = (vec![b'x'; length], Vec::new());
            write_frame(&mut output, TEXT, &payload).unwrap();
            let (start, rest) = output.split_at(head.len());
            assert_eq!(start, head);
            let (mask, masked) = rest.split_at(4);
            let unmasked: Vec<_> = masked.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, payload);
        };
        check(0, &[0x81, 0x80]);
        check(125, &[0x81, 0xfd]);
        check(126, &[0x81, 0xfe, 0, 126]);
        check(300, &[0x81, 0xfe, 1, 44]);
    }
}
