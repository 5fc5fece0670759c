//! Frame heads (RFC 6455, section 5.2).

use crate::close::CONTROL_MAX;
use crate::violation::Violation;

/// Maximum length of a head: two bytes, the length, and the mask.
const HEAD_MAX: usize = 14;

/// What a frame contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    pub(crate) fn is_control(self) -> bool {
        self as u8 >= 8
    }

    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// The head of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) opcode: Opcode,
    pub(crate) is_last: bool,
    /// The frame begins a compressed message (RFC 7692, section 6).
    pub(crate) is_compressed: bool,
    pub(crate) len: u64,
    pub(crate) mask: [u8; 4],
}

/// The bytes of a head that have arrived.
#[derive(Debug, Default)]
pub(crate) struct HeadBuffer {
    bytes: [u8; HEAD_MAX],
    len: u8,
}

impl HeadBuffer {
    /// Reads from `input` until the head is complete, and returns it with the number of bytes taken.
    ///
    /// # Errors
    ///
    /// Returns an error as soon as the head can't become a valid one.
    pub(crate) fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Head>), Violation> {
        let mut taken = 0;
        loop {
            let wanted = self.wanted()?;
            let len = usize::from(self.len);
            let more = (wanted - len).min(input.len() - taken);
            self.bytes[len..len + more].copy_from_slice(&input[taken..taken + more]);
            taken += more;
            // At most `HEAD_MAX`.
            self.len += u8::try_from(more).unwrap_or(0);
            if usize::from(self.len) < wanted {
                return Ok((taken, None));
            }
            if self.len > 2 {
                let head = self.head()?;
                self.len = 0;
                return Ok((taken, Some(head)));
            }
        }
    }

    /// How many bytes the head has, as far as that is known.
    fn wanted(&self) -> Result<usize, Violation> {
        if self.len < 2 {
            return Ok(2);
        }
        let [first, second, ..] = self.bytes;
        let opcode = Opcode::of(first & 0x0f).ok_or(Violation::Protocol("an unknown opcode"))?;
        if first & 0x30 != 0 {
            return Err(Violation::Protocol("a reserved bit is set"));
        }
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("a frame isn't masked"));
        }
        let len = second & 0x7f;
        if opcode.is_control() {
            if first & 0x80 == 0 {
                return Err(Violation::Protocol("a control frame is fragmented"));
            }
            if usize::from(len) > CONTROL_MAX {
                return Err(Violation::Protocol("a control frame is too long"));
            }
        }
        Ok(match len {
            126 => 8,
            127 => HEAD_MAX,
            _ => 6,
        })
    }

    fn head(&self) -> Result<Head, Violation> {
        let [first, second, a, b, c, d, e, f, g, h, mask @ ..] = self.bytes;
        let (len, mask) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), mask),
            len => (len.into(), [a, b, c, d]),
        };
        if len > i64::MAX.unsigned_abs() {
            return Err(Violation::Protocol("a frame's length has 64 bits"));
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(Violation::Protocol("an unknown opcode"))?;
        let (is_last, is_compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        Ok(Head { opcode, is_last, is_compressed, len, mask })
    }
}

/// Writes the head of a server's frame.
pub(crate) fn write_head(out: &mut Vec<u8>, opcode: Opcode, is_last: bool, is_compressed: bool, len: usize) {
    out.push(u8::from(is_last) << 7 | u8::from(is_compressed) << 6 | opcode as u8);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: usize) -> Result<Option<Head>, Violation> {
        let mut buffer = HeadBuffer::default();
        for part in bytes.chunks(size) {
            let (taken, head) = buffer.read(part)?;
            if head.is_some() {
                return Ok(head);
            }
            assert_eq!(taken, part.len());
        }
        Ok(None)
    }

    #[test]
    fn heads_of_all_lengths_are_read_however_they_are_split() {
        for (len, bytes) in [
            (0_u64, b"\x82\x80abcd".to_vec()),
            (125, b"\x82\xfdabcd".to_vec()),
            (126, b"\x82\xfe\x00\x7eabcd".to_vec()),
            (65535, b"\x82\xfe\xff\xffabcd".to_vec()),
            (65536, b"\x82\xff\0\0\0\0\0\x01\0\0abcd".to_vec()),
        ] {
            let expected =
                Head { opcode: Opcode::Binary, is_last: true, is_compressed: false, len, mask: *b"abcd" };
            for size in 1..=bytes.len() {
                assert_eq!(read(&bytes, size), Ok(Some(expected)));
                assert_eq!(read(&bytes[..bytes.len() - 1], size), Ok(None));
            }
        }
    }

    #[test]
    fn invalid_heads_are_refused_after_two_bytes() {
        for bytes in
            [b"\x83\x80", b"\x8b\x80", b"\xa1\x80", b"\x91\x80", b"\x81\x00", b"\x09\x80", b"\x89\xfe"]
        {
            assert!(matches!(read(bytes, 1), Err(Violation::Protocol(_))), "{bytes:x?}");
        }
        assert!(read(b"\x82\xff\x80\0\0\0\0\0\0\0abcd", 1).is_err());
    }
}
