//! Turns the bytes of a client into messages.

#[cfg(test)]
mod tests;

use crate::close::{Close, is_sendable};
use crate::deflate::{Deflate, Inflated, Inflater};
use crate::frame::{Head, HeadBuffer, Opcode};
use crate::mask;
use crate::utf8::Utf8;
use crate::violation::Violation;

/// How many empty fragments a message may have. Each of the others adds at least a byte, up to the limit.
const EMPTY_FRAGMENTS_MAX: u16 = 1024;

/// Compressed bytes that are unmasked at a time: what doesn't fit into the room is masked again.
const COMPRESSED_CHUNK: usize = 2048;

/// How much larger than its content a compressed message may be: a part of it, and a constant.
const COMPRESSED_EXTRA: (u64, u64) = (64, 1024);

/// Reads the frames of one client, and puts messages together. After an error or a close frame, nothing more may be read.
pub struct Reader {
    head: HeadBuffer,
    frame: Option<Frame>,
    message: Option<Partial>,
    /// The payload of a control frame.
    control: Vec<u8>,
    /// Maximum size of a message, in bytes.
    limit: usize,
    inflater: Option<Inflater>,
}

/// A frame whose payload is arriving.
struct Frame {
    opcode: Opcode,
    is_last: bool,
    left: u64,
    mask: [u8; 4],
}

/// A message that is arriving.
struct Partial {
    is_text: bool,
    is_compressed: bool,
    payload: Vec<u8>,
    utf8: Utf8,
    /// Bytes of its frames so far, compressed or not.
    received: u64,
    empty_fragments: u16,
}

/// A complete message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// UTF-8 text, rather than binary data.
    pub is_text: bool,
    /// Its content.
    pub payload: Vec<u8>,
}

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete message.
    Message(Message),
    /// The same payload is to be sent back in a pong.
    Ping(Vec<u8>),
    /// A response to a ping, or a sign of life.
    Pong,
    /// The client's last frame.
    Close(Close),
}

/// The result of reading some bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// How many bytes were consumed. The others must be passed again.
    pub consumed: usize,
    /// The room was used up: more room is needed before anything else.
    pub is_full: bool,
    /// If there is none and `is_full` isn't set, all bytes were consumed.
    pub event: Option<Event>,
}

impl Reader {
    /// Creates a reader for messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize, deflate: Option<&Deflate>) -> Self {
        Self {
            head: HeadBuffer::default(),
            frame: None,
            message: None,
            control: Vec::new(),
            limit,
            inflater: deflate.map(Deflate::inflater),
        }
    }

    /// The bytes of an incomplete message that are in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |it| it.payload.len())
    }

    /// Reads until the next event, or until `input` is consumed. A message may grow by up to `room` bytes. Unmasks
    /// `input` in place.
    ///
    /// # Errors
    ///
    /// Returns an error if the client violates the protocol or the limit.
    pub fn read(&mut self, input: &mut [u8], room: usize) -> Result<Step, Violation> {
        let (mut consumed, mut room) = (0, room);
        loop {
            if self.frame.is_none() {
                let (taken, head) = self.head.read(&input[consumed..])?;
                consumed += taken;
                let Some(head) = head else { return Ok(Step { consumed, is_full: false, event: None }) };
                self.begin(&head)?;
            }
            let before = self.held();
            let (taken, progress) = self.payload(&mut input[consumed..], room)?;
            consumed += taken;
            room -= self.held().saturating_sub(before).min(room);
            match progress {
                Progress::Frame => {}
                Progress::Event(event) => return Ok(Step { consumed, is_full: false, event: Some(event) }),
                Progress::More => return Ok(Step { consumed, is_full: false, event: None }),
                Progress::Full => return Ok(Step { consumed, is_full: true, event: None }),
            }
        }
    }

    /// Begins a frame.
    fn begin(&mut self, head: &Head) -> Result<(), Violation> {
        let Head { opcode, is_last, is_compressed, len, mask } = *head;
        if is_compressed && (self.inflater.is_none() || !matches!(opcode, Opcode::Text | Opcode::Binary)) {
            return Err(Violation::Protocol("a reserved bit is set"));
        }
        match (opcode, &self.message) {
            (Opcode::Continuation, None) => {
                return Err(Violation::Protocol("a fragment doesn't belong to a message"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Violation::Protocol("a message begins before the end of another"));
            }
            (Opcode::Text | Opcode::Binary, None) => {
                self.message = Some(Partial {
                    is_text: opcode == Opcode::Text,
                    is_compressed,
                    payload: Vec::new(),
                    utf8: Utf8::default(),
                    received: 0,
                    empty_fragments: 0,
                });
            }
            (Opcode::Continuation, Some(_)) | (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
        }
        if !opcode.is_control()
            && let Some(message) = &mut self.message
        {
            message.extend(len, is_last, self.limit as u64)?;
        }
        self.frame = Some(Frame { opcode, is_last, left: len, mask });
        Ok(())
    }

    /// Reads the payload of the current frame.
    fn payload(&mut self, input: &mut [u8], room: usize) -> Result<(usize, Progress), Violation> {
        let Some(frame) = &mut self.frame else { return Ok((0, Progress::Frame)) };
        let available = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
        let (taken, is_full) = match &mut self.message {
            _ if frame.opcode.is_control() => {
                let bytes = &mut input[..available];
                frame.mask = mask::apply(frame.mask, bytes);
                self.control.extend_from_slice(bytes);
                (available, false)
            }
            Some(message) if message.is_compressed => {
                message.inflate(frame, self.inflater.as_mut(), &mut input[..available], room, self.limit)?
            }
            Some(message) => message.append(frame, &mut input[..available], room)?,
            None => (0, false),
        };
        frame.left -= taken as u64;
        if is_full {
            return Ok((taken, Progress::Full));
        }
        if frame.left > 0 {
            return Ok((taken, Progress::More));
        }
        let progress = match frame.opcode {
            Opcode::Close => Progress::Event(Event::Close(close(&std::mem::take(&mut self.control))?)),
            Opcode::Ping => Progress::Event(Event::Ping(std::mem::take(&mut self.control))),
            Opcode::Pong => {
                self.control = Vec::new();
                Progress::Event(Event::Pong)
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary if frame.is_last => {
                if let Some(message) = &mut self.message
                    && !message.end(self.inflater.as_mut(), room, self.limit)?
                {
                    return Ok((taken, Progress::Full));
                }
                match self.message.take() {
                    Some(Partial { is_text, payload, .. }) => {
                        Progress::Event(Event::Message(Message { is_text, payload }))
                    }
                    None => Progress::Frame,
                }
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => Progress::Frame,
        };
        self.frame = None;
        Ok((taken, progress))
    }
}

/// How far reading a payload got.
enum Progress {
    /// The frame is complete, its message isn't.
    Frame,
    Event(Event),
    /// The rest of the payload hasn't arrived.
    More,
    /// The room is used up.
    Full,
}

impl Partial {
    /// Adds the announced length of a frame.
    fn extend(&mut self, len: u64, is_last: bool, limit: u64) -> Result<(), Violation> {
        self.received = self.received.saturating_add(len);
        let (part, constant) = COMPRESSED_EXTRA;
        let most = if self.is_compressed { limit + limit / part + constant } else { limit };
        if self.received > most {
            return Err(Violation::TooLarge);
        }
        if len == 0 && !is_last {
            self.empty_fragments += 1;
            if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                return Err(Violation::EmptyFragments);
            }
        }
        Ok(())
    }

    /// Appends a payload that isn't compressed. Returns how much of it, and whether the room was too small.
    fn append(
        &mut self,
        frame: &mut Frame,
        input: &mut [u8],
        room: usize,
    ) -> Result<(usize, bool), Violation> {
        let taken = input.len().min(room);
        let bytes = &mut input[..taken];
        frame.mask = mask::apply(frame.mask, bytes);
        self.check(bytes)?;
        if self.payload.is_empty() {
            // Most messages are one frame, which mostly arrives at once.
            self.payload.reserve_exact(taken);
        }
        self.payload.extend_from_slice(bytes);
        Ok((taken, taken < input.len()))
    }

    /// Appends a compressed payload. Returns how much of it, and whether the room was too small.
    fn inflate(
        &mut self,
        frame: &mut Frame,
        inflater: Option<&mut Inflater>,
        input: &mut [u8],
        room: usize,
        limit: usize,
    ) -> Result<(usize, bool), Violation> {
        let Some(inflater) = inflater else { return Ok((input.len(), false)) };
        let until = self.payload.len().saturating_add(room);
        let mut taken = 0;
        loop {
            let chunk = COMPRESSED_CHUNK.min(input.len() - taken);
            let bytes = &mut input[taken..taken + chunk];
            let after = mask::apply(frame.mask, bytes);
            let before = self.payload.len();
            let room = room_for(before, until, limit);
            let Inflated { taken: used, is_complete } = inflater.inflate(bytes, &mut self.payload, room)?;
            self.check_from(before, limit)?;
            taken += used;
            if used == chunk {
                frame.mask = after;
            } else {
                frame.mask.rotate_left(used % 4);
                mask::apply(frame.mask, &mut bytes[used..]);
            }
            if !is_complete {
                return Ok((taken, true));
            }
            if taken == input.len() {
                return Ok((taken, false));
            }
        }
    }

    /// Ends the message. Returns `false` if that takes more room.
    fn end(&mut self, inflater: Option<&mut Inflater>, room: usize, limit: usize) -> Result<bool, Violation> {
        if self.is_compressed
            && let Some(inflater) = inflater
        {
            let before = self.payload.len();
            let room = room_for(before, before.saturating_add(room), limit);
            let Inflated { is_complete, .. } = inflater.end(&mut self.payload, room)?;
            self.check_from(before, limit)?;
            if !is_complete {
                return Ok(false);
            }
        }
        if self.is_text {
            self.utf8.end()?;
        }
        Ok(true)
    }

    /// Checks what was decompressed: the payload from `start` on.
    fn check_from(&mut self, start: usize, limit: usize) -> Result<(), Violation> {
        if self.payload.len() > limit {
            return Err(Violation::TooLarge);
        }
        if self.is_text {
            self.utf8.check(&self.payload[start..])?;
        }
        Ok(())
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if self.is_text {
            self.utf8.check(bytes)?;
        }
        Ok(())
    }
}

/// How many bytes may be decompressed: one more than the limit shows that it is exceeded.
fn room_for(len: usize, until: usize, limit: usize) -> usize {
    until.min(limit.saturating_add(1)).saturating_sub(len)
}

/// Reads the payload of a close frame.
fn close(payload: &[u8]) -> Result<Close, Violation> {
    match payload {
        [] => Ok(Close { code: None, reason: String::new() }),
        [_] => Err(Violation::Protocol("a close frame has half a code")),
        [first, second, reason @ ..] => {
            let code = u16::from_be_bytes([*first, *second]);
            if !is_sendable(code) {
                return Err(Violation::Protocol("a close frame has an invalid code"));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::Text)?;
            Ok(Close { code: Some(code), reason: reason.to_owned() })
        }
    }
}
