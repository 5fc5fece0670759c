//! The frames of WebSockets, from a client's view.

use anyhow::ensure;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// All messages here are much shorter.
const LONGEST: usize = 64 << 20;

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: u8,
    pub(super) is_final: bool,
    pub(super) payload: Bytes,
}

/// Removes the first frame from the input. None if it isn't complete.
pub(super) fn take(input: &mut BytesMut) -> anyhow::Result<Option<Frame>> {
    let [first, second, ref rest @ ..] = **input else { return Ok(None) };
    ensure!(first & RESERVED == 0, "the server sent a frame of an extension");
    ensure!(second & MASKED == 0, "the server sent a masked frame");
    let (head, length) = match (second, rest.first_chunk(), rest.first_chunk()) {
        (126, Some(length), _) => (4, usize::from(u16::from_be_bytes(*length))),
        (127, _, Some(length)) => (10, usize::try_from(u64::from_be_bytes(*length))?),
        (126 | 127, ..) => return Ok(None),
        (length, ..) => (2, usize::from(length)),
    };
    ensure!(length <= LONGEST, "the server sent a frame of {length} bytes");
    if input.len() < head + length {
        return Ok(None);
    }
    input.advance(head);
    let payload = input.split_to(length).freeze();
    Ok(Some(Frame { opcode: first & 0xf, is_final: first & FINAL != 0, payload }))
}

/// Appends a masked frame.
pub(super) fn write(output: &mut BytesMut, opcode: u8, payload: &[u8]) {
    output.reserve(payload.len() + 14);
    output.put_u8(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => output.put_u8(MASKED | length),
        (_, Ok(length)) => {
            output.put_u8(MASKED | 126);
            output.put_u16(length);
        }
        _ => {
            output.put_u8(MASKED | 127);
            output.put_u64(payload.len() as u64);
        }
    }
    let mask = fastrand::u32(..).to_ne_bytes();
    output.put_slice(&mask);
    output.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, is_final: bool, payload: &'static [u8]) -> Option<Frame> {
        Some(Frame { opcode, is_final, payload: payload.into() })
    }

    #[test]
    fn frames_from_a_server() {
        let mut input = BytesMut::from(&b"\x81\x02ok\x89\x00\x01\x01a"[..]);
        assert_eq!(take(&mut input).unwrap(), frame(TEXT, true, b"ok"));
        assert_eq!(take(&mut input).unwrap(), frame(PING, true, b""));
        assert_eq!(take(&mut input).unwrap(), frame(TEXT, false, b"a"));
        assert_eq!(take(&mut input).unwrap(), None);
        for incomplete in [&b"\x81"[..], b"\x81\x02o", b"\x82\x7e\x01", b"\x82\x7f\0\0\0\0\0\x01\0"] {
            assert_eq!(take(&mut BytesMut::from(incomplete)).unwrap(), None, "{incomplete:?}");
        }
        for wrong in [&b"\xc1\x00"[..], b"\x81\x80\0\0\0\0", b"\x82\x7f\x7f\0\0\0\0\0\0\0"] {
            take(&mut BytesMut::from(wrong)).unwrap_err();
        }
    }

    #[test]
    fn frames_to_a_server_are_masked() {
        for (length, head) in [(0, &b"\x82\x80"[..]), (125, b"\x82\xfd"), (126, b"\x82\xfe\0\x7e")] {
            let mut output = BytesMut::new();
            write(&mut output, BINARY, &vec![b'x'; length]);
            let (start, rest) = output.split_at(head.len());
            assert_eq!(start, head);
            let (mask, masked) = rest.split_at(4);
            assert!(masked.iter().zip(mask.iter().cycle()).all(|(byte, mask)| byte ^ mask == b'x'));
            assert_eq!(masked.len(), length);
        }
        let mut output = BytesMut::new();
        write(&mut output, BINARY, &[0; 70_000]);
        assert_eq!(output[..10], *b"\x82\xff\0\0\0\0\0\x01\x11\x70");
    }
}
