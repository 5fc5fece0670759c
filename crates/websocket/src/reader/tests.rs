//! Frames of clients, good and bad, in parts of any size.

use super::*;
use crate::Writer;
use crate::deflate::Offer;
use crate::frame::write_head;

const LIMIT: usize = 100_000;

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_head(&mut out, Opcode::Text, true, false, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    let mask = [0x12, 0x34, 0x56, 0xf8];
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(mask, &mut out[start..]);
    out
}

/// Reads everything, in parts of `size` bytes, with `room` for each step.
fn read_with(reader: &mut Reader, bytes: &[u8], size: usize, room: usize) -> (Vec<Event>, Option<Violation>) {
    let mut events = Vec::new();
    for part in bytes.chunks(size) {
        let mut part = part.to_vec();
        let mut rest = &mut part[..];
        loop {
            match reader.read(rest, room) {
                Ok(Step { consumed, is_full, event }) => {
                    rest = &mut rest[consumed..];
                    let is_done = event.is_none() && !is_full;
                    events.extend(event);
                    if is_done {
                        assert!(rest.is_empty());
                        break;
                    }
                }
                Err(violation) => return (events, Some(violation)),
            }
        }
    }
    (events, None)
}

fn read(bytes: &[u8]) -> (Vec<Event>, Option<Violation>) {
    let whole = read_with(&mut Reader::new(LIMIT, None), bytes, bytes.len().max(1), usize::MAX);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(read_with(&mut Reader::new(LIMIT, None), bytes, size, size), whole, "{size} at a time");
    }
    whole
}

fn text(text: &str) -> Event {
    Event::Message(Message { is_text: true, payload: text.into() })
}

#[test]
fn messages_may_be_fragmented_with_control_frames_between_the_fragments() {
    let bytes = [
        frame(0x81, b"one"),
        frame(0x01, b"tw"),
        frame(0x89, b"?"),
        frame(0x00, b""),
        frame(0x8a, b"!"),
        frame(0x80, b"o"),
        frame(0x82, b"\xff"),
        frame(0x88, b"\x03\xe8bye"),
    ];
    let binary = Event::Message(Message { is_text: false, payload: vec![0xff] });
    let close = Event::Close(Close { code: Some(1000), reason: "bye".to_owned() });
    let expected = vec![text("one"), Event::Ping(b"?".to_vec()), Event::Pong, text("two"), binary, close];
    assert_eq!(read(&bytes.concat()), (expected, None));
    let none = Event::Close(Close { code: None, reason: String::new() });
    assert_eq!(read(&frame(0x88, b"")), (vec![none], None));
}

#[test]
fn violations_have_their_codes() {
    for (bytes, code) in [
        (frame(0x80, b"x"), 1002),
        ([frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        (frame(0xc1, b"x"), 1002),
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, b"\x03\xed"), 1002),
        (frame(0x88, b"\x03\xe8\xff"), 1007),
        (frame(0x81, b"a\xff"), 1007),
        (frame(0x81, b"\xe2\x82"), 1007),
        ([frame(0x01, b"\xe2"), frame(0x00, b"\x82"), frame(0x80, b"x")].concat(), 1007),
        (frame(0x82, &vec![0; LIMIT + 1])[..20].to_vec(), 1009),
        ([frame(0x02, &vec![0; LIMIT]), frame(0x80, b"1")].concat(), 1009),
        ([frame(0x01, b""), frame(0x00, b"").repeat(1024)].concat(), 1008),
    ] {
        let (_, violation) = read(&bytes);
        assert_eq!(
            violation.map(Violation::code),
            Some(code),
            "{}",
            bytes[..20.min(bytes.len())].escape_ascii()
        );
    }
    let (events, violation) = read(&frame(0x82, &vec![7; LIMIT]));
    assert_eq!((events.len(), violation), (1, None));
}

/// A text is refused with the byte that is wrong, although its message isn't complete.
#[test]
fn invalid_text_is_found_before_its_frame_is_complete() {
    let bytes = frame(0x01, b"\xce\xba\xff.......");
    let (_, violation) = read(&bytes[..9]);
    assert_eq!(violation, Some(Violation::Text));
}

fn deflate() -> Deflate {
    Offer::default().accept(true)
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut compressor = deflate().compressor();
    compressor.compress(message, &mut out);
    compressor.end(&mut out);
    out
}

#[test]
fn a_compressed_message_that_exceeds_the_limit_is_refused_before_it_is_decompressed() {
    for (len, expected) in
        [(LIMIT, None), (LIMIT + 1, Some(Violation::TooLarge)), (50 << 20, Some(Violation::TooLarge))]
    {
        let bytes = frame(0xc2, &compressed(&vec![0; len]));
        let mut reader = Reader::new(LIMIT, Some(&deflate()));
        let (events, violation) = read_with(&mut reader, &bytes, 4096, 1000);
        assert_eq!((events.len(), violation), (usize::from(expected.is_none()), expected));
        assert!(reader.held() <= LIMIT + 1);
    }
    // Empty stored blocks, which decompress to nothing.
    let bytes = frame(0xc2, &[0, 0, 0, 0xff, 0xff].repeat(LIMIT));
    let mut reader = Reader::new(LIMIT, Some(&deflate()));
    assert_eq!(read_with(&mut reader, &bytes, 4096, 1000).1, Some(Violation::TooLarge));
}

#[test]
fn compressed_messages_may_be_fragmented_and_only_their_first_frame_has_the_bit() {
    let packed = compressed("κόσμε".repeat(100).as_bytes());
    let (first, rest) = packed.split_at(5);
    let bytes = [frame(0x41, first), frame(0x89, b""), frame(0x80, rest), frame(0x81, b"plain")].concat();
    let expected = vec![text(&"κόσμε".repeat(100)), text("plain")];
    for (size, room) in [(1, 1), (7, 3), (1000, 50), (1000, 100_000)] {
        let mut reader = Reader::new(LIMIT, Some(&deflate()));
        let (mut events, violation) = read_with(&mut reader, &bytes, size, room);
        events.retain(|it| !matches!(it, Event::Ping(_)));
        assert_eq!((&events, violation), (&expected, None));
    }
    for bad in [frame(0xc9, b""), [frame(0x41, first), frame(0xc0, rest)].concat()] {
        let mut reader = Reader::new(LIMIT, Some(&deflate()));
        assert!(matches!(read_with(&mut reader, &bad, 9, 9).1, Some(Violation::Protocol(_))));
    }
    let mut reader = Reader::new(LIMIT, Some(&deflate()));
    let text = frame(0xc1, &compressed(b"a\xff"));
    assert_eq!(read_with(&mut reader, &text, 9, 9).1, Some(Violation::Text));
}

/// What the writer writes can be read, once it is masked.
#[test]
fn random_messages_go_through_writer_and_reader_however_they_are_split() {
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..120 {
        let offer = Offer::default().accept(round % 4 > 1);
        let agreed = (round % 2 == 0).then_some(offer);
        let mut writer = Writer::new(agreed.as_ref());
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..random.usize(1..6) {
            let is_text = random.bool();
            let parts: Vec<Vec<u8>> = (0..random.usize(1..4))
                .map(|_| (0..random.usize(0..3000)).map(|_| random.u8(b'a'..b'f')).collect())
                .collect();
            let mut out = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                writer.message(&mut out, part, is_text, at + 1 < parts.len());
            }
            bytes.extend(masked(&out));
            expected.push(Event::Message(Message { is_text, payload: parts.concat() }));
        }
        let mut reader = Reader::new(LIMIT, agreed.as_ref());
        let (size, room) = (random.usize(1..4000), random.usize(1..4000));
        assert_eq!(read_with(&mut reader, &bytes, size, room), (expected, None), "round {round}");
        assert_eq!(reader.held(), 0);
    }
}

/// Masks the frames of a server, so that they pass for those of a client.
fn masked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, len, ..] = *bytes {
        let (head, len) = match len {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => panic!("no test has messages this long"),
            len => (2, usize::from(len)),
        };
        out.extend(frame(first, &bytes[head..head + len]));
        bytes = &bytes[head + len..];
    }
    out
}

#[test]
fn random_bytes_never_do_more_than_end_the_connection() {
    let mut random = fastrand::Rng::with_seed(13);
    for _ in 0..5000 {
        let agreed = random.bool().then(deflate);
        let mut reader = Reader::new(2000, agreed.as_ref());
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..6) {
            let first =
                *random.choice([0x81, 0x01, 0x80, 0x00, 0xc2, 0x42, 0x89, 0x8a, 0x88]).as_ref().unwrap();
            let payload: Vec<u8> = (0..random.usize(0..120)).map(|_| random.u8(..)).collect();
            bytes.extend(frame(first, &payload));
        }
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        let _ended = read_with(&mut reader, &bytes, random.usize(1..200), random.usize(1..200));
        assert!(reader.held() <= 2001);
    }
}
