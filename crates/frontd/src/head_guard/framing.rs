//! Follows the framing of an HTTP/1 request stream, and finds the first byte that makes it ambiguous.
//!
//! Heads are read line by line, bodies are skipped. It need not judge all that a parser judges: where
//! hyper refuses a head itself, the connection ends, and what is believed here no longer matters. It
//! must only never accept a framing that hyper would see otherwise.

use memchr::memchr;

/// How much of a line is kept when it comes in several reads; a line that frames a body may not be longer.
const LINE_KEPT: usize = 64;
/// The most bytes of chunk extensions and trailers in one body.
const CHUNK_EXTRA_MAX: usize = 16 * 1024;
/// Hexadecimal digits in a chunk size: what fits 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// RFC 9112 section 2.2 lets a recipient take it for a line end, and so do not all.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// RFC 9112 section 6.3: even when all are equal.
    #[error("more than one Content-Length")]
    RepeatedContentLength,
    /// Not a plain decimal number that fits 64 bits.
    #[error("a Content-Length that is no length")]
    InvalidContentLength,
    /// RFC 9112 section 6.1.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// No other coding is understood, and none may be hidden in a list.
    #[error("a Transfer-Encoding other than chunked")]
    UnknownTransferEncoding,
    /// RFC 9112 section 3.2.
    #[error("more than one Host")]
    RepeatedHost,
    /// RFC 9112 section 7.1.
    #[error("a malformed chunked body")]
    MalformedChunk,
    /// More than 16 KiB of chunk extensions and trailers.
    #[error("too much in chunk extensions or trailers")]
    ChunkExtraTooLong,
}

/// Where in the request stream the next byte stands.
#[derive(Debug)]
pub(super) struct Framing {
    place: Place,
    line: Line,
    head: Head,
    /// How many heads were complete.
    heads: u64,
}

#[derive(Debug)]
enum Place {
    /// Before a request line, where RFC 9112 section 2.2 lets empty lines be.
    RequestLine,
    /// In the field lines of a head.
    Fields,
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

/// What the fields of the present head have said so far.
#[derive(Debug, Default)]
struct Head {
    body: Option<Body>,
    has_host: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

/// The beginning of a line that is not yet complete.
#[derive(Debug)]
struct Line {
    kept: [u8; LINE_KEPT],
    /// Of the whole line so far, also of what was not kept.
    len: usize,
    ends_in_cr: bool,
}

/// A violation, and the index of the byte at which it is certain.
type Refusal = (usize, Violation);

impl Default for Framing {
    fn default() -> Self {
        Self { place: Place::RequestLine, line: Line::new(), head: Head::default(), heads: 0 }
    }
}

impl Framing {
    /// Takes the next bytes of the stream, however it was split.
    ///
    /// # Errors
    /// The first violation, with its index in `bytes`; nothing may be followed after it.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.place {
                Place::RequestLine | Place::Fields => self.head_line(rest),
                Place::Skip(left, after) => Ok(self.skip(rest.len(), left, after)),
                Place::Chunked(Chunk::Trailers, extra) => self.trailer_line(rest, extra),
                Place::Chunked(chunk, extra) => self.chunk_byte(rest[0], chunk, extra).map(|()| 1),
            }
            .map_err(|(index, violation)| (at + index, violation))?;
        }
        Ok(())
    }

    /// The number of the head that has begun and not ended, if the stream is in one.
    pub(super) fn open_head(&self) -> Option<u64> {
        let begun = match self.place {
            Place::RequestLine => self.line.len > 0,
            Place::Fields => true,
            Place::Skip(..) | Place::Chunked(..) => false,
        };
        begun.then_some(self.heads)
    }

    /// Takes one line of a head, or what there is of it; gives the bytes taken.
    fn head_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(lf) = memchr(b'\n', bytes) else {
            self.line.keep(bytes);
            return Ok(bytes.len());
        };
        self.line_end(&bytes[..lf]).map_err(|violation| (lf, violation))?;
        Ok(lf + 1)
    }

    /// The line whose last part, without its LF, is `last`, is complete.
    fn line_end(&mut self, last: &[u8]) -> Result<(), Violation> {
        if self.line.len == 0 {
            let line = last.strip_suffix(b"\r").ok_or(Violation::BareLf)?;
            return self.complete(line, line.len());
        }
        self.line.keep(last);
        let line = std::mem::replace(&mut self.line, Line::new());
        if !line.ends_in_cr {
            return Err(Violation::BareLf);
        }
        let len = line.len - 1;
        self.complete(&line.kept[..len.min(LINE_KEPT)], len)
    }

    /// `line` is what is kept of a head's line of `len` bytes.
    fn complete(&mut self, line: &[u8], len: usize) -> Result<(), Violation> {
        match (&self.place, len) {
            (Place::RequestLine, 0) => {}
            (Place::RequestLine, _) => self.place = Place::Fields,
            (_, 0) => {
                self.heads += 1;
                self.place = Place::after_head(std::mem::take(&mut self.head).body);
            }
            _ => self.head.field(line, len)?,
        }
        Ok(())
    }

    fn skip(&mut self, available: usize, left: u64, after: After) -> usize {
        let taken = usize::try_from(left).map_or(available, |left| left.min(available));
        self.place = match (left - taken as u64, after) {
            (0, After::Request) => Place::RequestLine,
            (0, After::Chunk(extra)) => Place::Chunked(Chunk::DataCr, extra),
            (left, after) => Place::Skip(left, after),
        };
        taken
    }

    fn chunk_byte(&mut self, byte: u8, chunk: Chunk, extra: usize) -> Result<(), Refusal> {
        self.place = match chunk.next(byte).map_err(|violation| (0, violation))? {
            Step::To(next) => Place::Chunked(next, extra),
            Step::Extra(next) if extra < CHUNK_EXTRA_MAX => Place::Chunked(next, extra + 1),
            Step::Extra(_) => return Err((0, Violation::ChunkExtraTooLong)),
            Step::Data(size) => Place::Skip(size, After::Chunk(extra)),
        };
        Ok(())
    }

    /// Takes one line of the trailers, or what there is of it; gives the bytes taken.
    fn trailer_line(&mut self, bytes: &[u8], extra: usize) -> Result<usize, Refusal> {
        let lf = memchr(b'\n', bytes);
        let taken = lf.map_or(bytes.len(), |lf| lf + 1);
        if extra + taken > CHUNK_EXTRA_MAX {
            return Err((0, Violation::ChunkExtraTooLong));
        }
        self.place = Place::Chunked(Chunk::Trailers, extra + taken);
        self.line.keep(&bytes[..lf.unwrap_or(taken)]);
        if let Some(lf) = lf {
            let line = std::mem::replace(&mut self.line, Line::new());
            match (line.ends_in_cr, line.len) {
                (false, _) => return Err((lf, Violation::BareLf)),
                (true, 1) => self.place = Place::RequestLine,
                (true, _) => {}
            }
        }
        Ok(taken)
    }
}

impl Place {
    fn after_head(body: Option<Body>) -> Self {
        match body {
            None | Some(Body::Length(0)) => Self::RequestLine,
            Some(Body::Length(length)) => Self::Skip(length, After::Request),
            Some(Body::Chunked) => Self::Chunked(Chunk::Size(0, 0), 0),
        }
    }
}

impl Head {
    /// `line` is what is kept of a field line of `len` bytes.
    fn field(&mut self, line: &[u8], len: usize) -> Result<(), Violation> {
        match line.first() {
            Some(b'c' | b'C') => value_of(line, b"content-length").map_or(Ok(()), |value| {
                let length = number(value).filter(|_| len <= LINE_KEPT);
                self.frame(Body::Length(length.ok_or(Violation::InvalidContentLength)?))
            }),
            Some(b't' | b'T') => value_of(line, b"transfer-encoding").map_or(Ok(()), |value| {
                if len > LINE_KEPT || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::UnknownTransferEncoding);
                }
                self.frame(Body::Chunked)
            }),
            Some(b'h' | b'H') if value_of(line, b"host").is_some() => {
                if std::mem::replace(&mut self.has_host, true) {
                    return Err(Violation::RepeatedHost);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn frame(&mut self, body: Body) -> Result<(), Violation> {
        match (self.body.replace(body), body) {
            (None, _) => Ok(()),
            (Some(Body::Length(_)), Body::Length(_)) => Err(Violation::RepeatedContentLength),
            (Some(Body::Chunked), Body::Chunked) => Err(Violation::UnknownTransferEncoding),
            _ => Err(Violation::TwoFramings),
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

impl Line {
    fn new() -> Self {
        Self { kept: [0; LINE_KEPT], len: 0, ends_in_cr: false }
    }

    fn keep(&mut self, part: &[u8]) {
        let Some(&last) = part.last() else { return };
        if let Some(room) = self.kept.get_mut(self.len..) {
            let taken = room.len().min(part.len());
            room[..taken].copy_from_slice(&part[..taken]);
        }
        self.len = self.len.saturating_add(part.len());
        self.ends_in_cr = last == b'\r';
    }
}

/// The value of a field line, without the whitespace around it, if this is the field's name.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| trim(value))
}

/// Without optional whitespace (RFC 9110 section 5.6.3), which is SP and HTAB only.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Decimal digits and nothing else: `FromStr` would take a sign.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}
