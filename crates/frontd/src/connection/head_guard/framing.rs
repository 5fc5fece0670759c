//! Follows the framing of an HTTP/1 request stream, and finds the first byte that makes it ambiguous.
//!
//! Heads are checked line by line, bodies are skipped. It must never accept a framing that hyper interprets
//! differently.

use std::ops::Range;

use memchr::memchr;

pub(super) use super::head::Rewrite;
use super::head::{self, Body, Head};
use crate::visit::violation::Violation;

/// Maximum number of bytes of chunk extensions and trailers in one body.
const CHUNK_EXTRA_MAX: usize = 16 * 1024;
/// Maximum number of hexadecimal digits in a chunk size: 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// The position in the request stream.
#[derive(Debug)]
pub(super) struct Framing {
    position: Position,
    head: Head,
    /// Maximum size of a head, in bytes.
    head_max: usize,
    /// The current head is passed from its beginning each time. These are the number of bytes of empty lines
    /// before it, the start of its current line, and how far it was searched for a line end.
    empty: usize,
    line: usize,
    searched: usize,
    /// The current line of the trailers.
    trailer: Trailer,
}

#[derive(Debug)]
enum Position {
    /// Before or in a head.
    Head,
    /// In a body, or in the data of a chunk: this many bytes are left.
    Skip(u64, After),
    /// In the framing of a chunked body, after this many bytes of extensions and trailers.
    Chunked(Chunk, usize),
}

#[derive(Debug, Clone, Copy)]
enum After {
    Request,
    Chunk(usize),
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    /// In the digits of a chunk size: their number and value.
    Size(u8, u64),
    /// After the digits, before the CR.
    Extension(u64),
    SizeLf(u64),
    DataCr,
    DataLf,
    Trailers,
}

/// The incomplete line of the trailers.
#[derive(Debug, Clone, Copy, Default)]
struct Trailer {
    len: usize,
    ends_in_cr: bool,
}

/// The result of checking some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The bytes before `ready` are good. The rest starts with `empty` bytes of empty lines, followed by the
    /// beginning of a head, which must be passed again together with what follows it.
    UpTo { ready: usize, empty: usize },
    /// The bytes before `ready` are good, and so is the head at `head` once it is rewritten. Between them are
    /// empty lines. What follows isn't checked yet.
    Rewrite { ready: usize, head: Range<usize>, rewrite: Option<Rewrite> },
    /// The bytes before `ready` are good. What follows violates HTTP, in a head or in a body.
    Refused { ready: usize, violation: Violation, place: RefusedIn },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedIn {
    Head,
    Body,
}

/// The result of checking a head.
enum Seen {
    /// It is incomplete, after this many bytes of empty lines.
    Begun { empty: usize },
    /// It is complete, after this many bytes of empty lines.
    Whole { empty: usize, len: usize, rewrite: Option<Rewrite> },
}

impl Framing {
    /// Creates the state before the first request.
    pub(super) fn new(head_max: usize) -> Self {
        Self {
            position: Position::Head,
            head: Head::default(),
            head_max,
            empty: 0,
            line: 0,
            searched: 0,
            trailer: Trailer::default(),
        }
    }

    /// Checks the next bytes of the stream, however it is split. May change the version in them.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) -> Followed {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let taken = match self.position {
                Position::Head => match self.head(rest) {
                    Ok(Seen::Begun { empty }) => return Followed::UpTo { ready: at, empty },
                    Ok(Seen::Whole { empty: 0, len, rewrite: None }) => Ok(len),
                    Ok(Seen::Whole { empty, len, rewrite }) => {
                        let head = at + empty..at + empty + len;
                        return Followed::Rewrite { ready: at, head, rewrite };
                    }
                    Err(violation) => {
                        return Followed::Refused { ready: at, violation, place: RefusedIn::Head };
                    }
                },
                Position::Skip(left, after) => Ok(self.skip(rest.len(), left, after)),
                Position::Chunked(Chunk::Trailers, extra) => self.trailer_line(rest, extra),
                Position::Chunked(chunk, extra) => self.chunk_byte(rest[0], chunk, extra).map(|()| 1),
            };
            match taken {
                Ok(taken) => at += taken,
                Err(violation) => return Followed::Refused { ready: at, violation, place: RefusedIn::Body },
            }
        }
        Followed::UpTo { ready: at, empty: 0 }
    }

    /// Checks the available part of a head from its beginning.
    fn head(&mut self, bytes: &mut [u8]) -> Result<Seen, Violation> {
        while let Some(lf) = memchr(b'\n', &bytes[self.searched..]).map(|it| self.searched + it) {
            if lf - self.empty >= self.head_max {
                return Err(Violation::HeadTooLong);
            }
            let start = self.line;
            let line = &mut bytes[start..lf];
            let (cr, line) = line.split_last_mut().ok_or(Violation::BareLf)?;
            if *cr != b'\r' {
                return Err(Violation::BareLf);
            }
            (self.line, self.searched) = (lf + 1, lf + 1);
            match (self.head.is_empty(), line.is_empty()) {
                // RFC 9112, section 2.2.
                (true, true) => self.empty = lf + 1,
                (true, false) => self.head.request_line(line, start - self.empty)?,
                (false, false) => self.head.field(line)?,
                (false, true) => {
                    (self.line, self.searched) = (0, 0);
                    let (body, rewrite) = std::mem::take(&mut self.head).end();
                    self.position = Position::after_head(body);
                    let empty = std::mem::take(&mut self.empty);
                    return Ok(Seen::Whole { empty, len: lf + 1 - empty, rewrite });
                }
            }
        }
        let empty = std::mem::take(&mut self.empty);
        if bytes.len() - empty > self.head_max {
            return Err(Violation::HeadTooLong);
        }
        if self.head.is_empty() {
            head::check_begun(&bytes[self.line..])?;
        }
        (self.line, self.searched) = (self.line - empty, bytes.len() - empty);
        Ok(Seen::Begun { empty })
    }

    fn skip(&mut self, available: usize, left: u64, after: After) -> usize {
        let taken = usize::try_from(left).map_or(available, |left| left.min(available));
        self.position = match (left - taken as u64, after) {
            (0, After::Request) => Position::Head,
            (0, After::Chunk(extra)) => Position::Chunked(Chunk::DataCr, extra),
            (left, after) => Position::Skip(left, after),
        };
        taken
    }

    fn chunk_byte(&mut self, byte: u8, chunk: Chunk, extra: usize) -> Result<(), Violation> {
        self.position = match chunk.next(byte)? {
            Step::To(next) => Position::Chunked(next, extra),
            Step::Extra(next) if extra < CHUNK_EXTRA_MAX => Position::Chunked(next, extra + 1),
            Step::Extra(_) => return Err(Violation::ChunkExtraTooLong),
            Step::Data(size) => Position::Skip(size, After::Chunk(extra)),
        };
        Ok(())
    }

    /// Checks one line of the trailers, or the available part. Returns the number of bytes consumed.
    fn trailer_line(&mut self, bytes: &[u8], extra: usize) -> Result<usize, Violation> {
        let lf = memchr(b'\n', bytes);
        let taken = lf.map_or(bytes.len(), |lf| lf + 1);
        if extra + taken > CHUNK_EXTRA_MAX {
            return Err(Violation::ChunkExtraTooLong);
        }
        self.position = Position::Chunked(Chunk::Trailers, extra + taken);
        self.trailer.keep(&bytes[..lf.unwrap_or(taken)]);
        if lf.is_some() {
            match std::mem::take(&mut self.trailer) {
                Trailer { ends_in_cr: false, .. } => return Err(Violation::BareLf),
                Trailer { len: 1, .. } => self.position = Position::Head,
                Trailer { .. } => {}
            }
        }
        Ok(taken)
    }
}

impl Trailer {
    fn keep(&mut self, part: &[u8]) {
        let Some(&last) = part.last() else { return };
        self.len = self.len.saturating_add(part.len());
        self.ends_in_cr = last == b'\r';
    }
}

impl Position {
    fn after_head(body: Option<Body>) -> Self {
        match body {
            None | Some(Body::Length(0)) => Self::Head,
            Some(Body::Length(length)) => Self::Skip(length, After::Request),
            Some(Body::Chunked) => Self::Chunked(Chunk::Size(0, 0), 0),
        }
    }
}

enum Step {
    To(Chunk),
    /// Like `To`, after a byte of an extension.
    Extra(Chunk),
    /// This many bytes of data follow.
    Data(u64),
}

impl Chunk {
    fn next(self, byte: u8) -> Result<Step, Violation> {
        Ok(Step::To(match (self, byte) {
            (Self::Size(1.., size), b'\r') => Self::SizeLf(size),
            (Self::Size(1.., size), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(digits, size), _) => Self::digit(digits, size, byte)?,
            (Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Extension(_), b'\n') => return Err(Violation::BareLf),
            (Self::Extension(_), _) => return Ok(Step::Extra(self)),
            (Self::SizeLf(0), b'\n') => Self::Trailers,
            (Self::SizeLf(size), b'\n') => return Ok(Step::Data(size)),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            _ => return Err(Violation::MalformedChunk),
        }))
    }

    fn digit(digits: u8, size: u64, byte: u8) -> Result<Self, Violation> {
        match char::from(byte).to_digit(16) {
            Some(digit) if digits < CHUNK_SIZE_DIGITS_MAX => {
                Ok(Self::Size(digits + 1, size << 4 | u64::from(digit)))
            }
            _ => Err(Violation::MalformedChunk),
        }
    }
}
