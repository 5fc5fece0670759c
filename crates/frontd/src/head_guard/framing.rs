//! Follows the framing of an HTTP/1 request stream, and finds the first byte that makes it ambiguous.
//!
//! Heads are judged line by line, bodies are skipped. It must never accept a framing that hyper would see otherwise.

use std::ops::Range;

use memchr::memchr;

pub(super) use super::head::Rewrite;
use super::head::{self, Body, Head};
use super::violation::Violation;

/// The most bytes of chunk extensions and trailers in one body.
const CHUNK_EXTRA_MAX: usize = 16 * 1024;
/// Hexadecimal digits in a chunk size: what fits 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Where in the request stream the next byte stands.
#[derive(Debug)]
pub(super) struct Framing {
    place: Place,
    head: Head,
    /// Bytes that a head may have.
    head_max: usize,
    /// Of the present head, which is given whole each time: bytes of empty lines before it, where its present line
    /// begins, and how far it was searched for an end.
    empty: usize,
    line: usize,
    searched: usize,
    /// Whether the present line of the trailers has a byte besides its end, and whether that is a CR so far.
    trailer: Trailer,
}

#[derive(Debug)]
enum Place {
    /// Before or in a head.
    Head,
    /// In a body, or in the data of a chunk with `Chunk` after it, with so many bytes to come.
    Skip(u64, After),
    /// In the framing of a chunked body; so many bytes of extensions and trailers so far.
    Chunked(Chunk, usize),
}

#[derive(Debug, Clone, Copy)]
enum After {
    Request,
    Chunk(usize),
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    /// In the digits of a chunk size: how many there are, and their value.
    Size(u8, u64),
    /// After the digits, up to the CR.
    Extension(u64),
    SizeLf(u64),
    DataCr,
    DataLf,
    Trailers,
}

/// The line of the trailers that has begun.
#[derive(Debug, Clone, Copy, Default)]
struct Trailer {
    len: usize,
    ends_in_cr: bool,
}

/// What the bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// Those before `ready` are judged. The rest, save the `empty` bytes of empty lines that it begins with, is the
    /// beginning of a head: it has to be given again with what follows it.
    UpTo { ready: usize, empty: usize },
    /// Those before `ready` are judged, and the head of that place is good once it is rewritten: what stands between
    /// are empty lines. What follows it is yet to be followed.
    Rewrite { ready: usize, head: Range<usize>, rewrite: Option<Rewrite> },
    /// Those before `ready` are judged; what follows breaks the rules, in a head or in a body.
    Refused { ready: usize, violation: Violation, place: RefusedIn },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedIn {
    Head,
    Body,
}

/// A head that was looked at.
enum Seen {
    /// It goes on; so many bytes before it are empty lines.
    Begun { empty: usize },
    /// It is there, after so many bytes of empty lines.
    Whole { empty: usize, len: usize, rewrite: Option<Rewrite> },
}

impl Framing {
    /// Before a first request, whose head may have so many bytes.
    pub(super) fn new(head_max: usize) -> Self {
        Self {
            place: Place::Head,
            head: Head::default(),
            head_max,
            empty: 0,
            line: 0,
            searched: 0,
            trailer: Trailer::default(),
        }
    }

    /// Takes the next bytes of the stream, however it was split. A version in them may be changed.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) -> Followed {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let taken = match self.place {
                Place::Head => match self.head(rest) {
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
                Place::Skip(left, after) => Ok(self.skip(rest.len(), left, after)),
                Place::Chunked(Chunk::Trailers, extra) => self.trailer_line(rest, extra),
                Place::Chunked(chunk, extra) => self.chunk_byte(rest[0], chunk, extra).map(|()| 1),
            };
            match taken {
                Ok(taken) => at += taken,
                Err(violation) => return Followed::Refused { ready: at, violation, place: RefusedIn::Body },
            }
        }
        Followed::UpTo { ready: at, empty: 0 }
    }

    /// Looks at a head from its beginning, as far as it is there.
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
                // RFC 9112 section 2.2.
                (true, true) => self.empty = lf + 1,
                (true, false) => self.head.request_line(line, start - self.empty)?,
                (false, false) => self.head.field(line)?,
                (false, true) => {
                    (self.line, self.searched) = (0, 0);
                    let (body, rewrite) = std::mem::take(&mut self.head).end();
                    self.place = Place::after_head(body);
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
        self.place = match (left - taken as u64, after) {
            (0, After::Request) => Place::Head,
            (0, After::Chunk(extra)) => Place::Chunked(Chunk::DataCr, extra),
            (left, after) => Place::Skip(left, after),
        };
        taken
    }

    fn chunk_byte(&mut self, byte: u8, chunk: Chunk, extra: usize) -> Result<(), Violation> {
        self.place = match chunk.next(byte)? {
            Step::To(next) => Place::Chunked(next, extra),
            Step::Extra(next) if extra < CHUNK_EXTRA_MAX => Place::Chunked(next, extra + 1),
            Step::Extra(_) => return Err(Violation::ChunkExtraTooLong),
            Step::Data(size) => Place::Skip(size, After::Chunk(extra)),
        };
        Ok(())
    }

    /// Takes one line of the trailers, or what there is of it; gives the bytes taken.
    fn trailer_line(&mut self, bytes: &[u8], extra: usize) -> Result<usize, Violation> {
        let lf = memchr(b'\n', bytes);
        let taken = lf.map_or(bytes.len(), |lf| lf + 1);
        if extra + taken > CHUNK_EXTRA_MAX {
            return Err(Violation::ChunkExtraTooLong);
        }
        self.place = Place::Chunked(Chunk::Trailers, extra + taken);
        self.trailer.keep(&bytes[..lf.unwrap_or(taken)]);
        if lf.is_some() {
            match std::mem::take(&mut self.trailer) {
                Trailer { ends_in_cr: false, .. } => return Err(Violation::BareLf),
                Trailer { len: 1, .. } => self.place = Place::Head,
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

impl Place {
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
    /// As `To`, over a byte of an extension.
    Extra(Chunk),
    /// So many bytes of data follow.
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
