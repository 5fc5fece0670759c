//! Turns messages into the frames of a server.

use crate::close::Close;
use crate::deflate::{Compressor, Deflate};
use crate::frame::{Opcode, write_head};

/// Smaller messages aren't compressed: it would hardly make them smaller.
const COMPRESSED_MIN: usize = 16;

/// Writes the frames for one client.
pub struct Writer {
    compressor: Option<Compressor>,
    message: Stage,
    /// Compressed data on its way into a frame.
    compressed: Vec<u8>,
}

/// The position in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Between,
    /// Its parts are compressed or not. The first frame is written or not.
    Within {
        is_compressed: bool,
        has_begun: bool,
    },
}

impl Writer {
    /// Creates a writer.
    #[must_use]
    pub fn new(deflate: Option<&Deflate>) -> Self {
        Self { compressor: deflate.map(Deflate::compressor), message: Stage::Between, compressed: Vec::new() }
    }

    /// Whether no message has begun that isn't complete.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.message == Stage::Between
    }

    /// Appends a message, or a part of one, to `out`. If it `continues`, the next part belongs to the same message.
    pub fn message(&mut self, out: &mut Vec<u8>, payload: &[u8], is_text: bool, continues: bool) {
        let (is_compressed, has_begun) = match self.message {
            Stage::Within { is_compressed, has_begun } => (is_compressed, has_begun),
            Stage::Between => {
                (self.compressor.is_some() && (continues || payload.len() >= COMPRESSED_MIN), false)
            }
        };
        let opcode = match is_text {
            _ if has_begun => Opcode::Continuation,
            true => Opcode::Text,
            false => Opcode::Binary,
        };
        let mut has_begun = true;
        match &mut self.compressor {
            Some(compressor) if is_compressed => {
                compressor.compress(payload, &mut self.compressed);
                if !continues {
                    compressor.end(&mut self.compressed);
                }
                if continues && self.compressed.is_empty() {
                    has_begun = opcode == Opcode::Continuation;
                } else {
                    let is_first = opcode != Opcode::Continuation;
                    write_head(out, opcode, !continues, is_first, self.compressed.len());
                    out.append(&mut self.compressed);
                }
                self.compressed = Vec::new();
            }
            _ => {
                write_head(out, opcode, !continues, false, payload.len());
                out.extend_from_slice(payload);
            }
        }
        self.message = if continues { Stage::Within { is_compressed, has_begun } } else { Stage::Between };
    }

    /// Appends a ping.
    pub fn ping(&self, out: &mut Vec<u8>) {
        write_head(out, Opcode::Ping, true, false, 0);
    }

    /// Appends the response to a ping.
    pub fn pong(&self, out: &mut Vec<u8>, payload: &[u8]) {
        write_head(out, Opcode::Pong, true, false, payload.len());
        out.extend_from_slice(payload);
    }

    /// Appends the last frame.
    pub fn close(&self, out: &mut Vec<u8>, close: &Close) {
        let payload = close.payload();
        write_head(out, Opcode::Close, true, false, payload.len());
        out.extend_from_slice(&payload);
    }
}
