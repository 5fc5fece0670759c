//! Compresses and decompresses messages. Contexts are created with their first message. Those that aren't kept between
//! messages are shared by all sockets of a thread.

use std::cell::RefCell;
use std::thread::LocalKey;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Method, Status, Strategy};

use super::{WINDOW_BITS, WINDOW_BITS_MAX};

/// zlib's level 2: a quarter of the time of its default, for slightly larger messages.
const LEVEL: i32 = 2;

/// The size of zlib's buffers: 2^(5 + 6) symbols.
const MEM_LEVEL: i32 = 5;

/// How many contexts a thread keeps for messages of sockets that don't have one of their own.
const SHARED_MAX: usize = 8;

/// The minimum of bytes that zlib gets to write into. With less than 7, it would write its marker again.
const CHUNK: usize = 4096;

/// What a flushed block ends with, which isn't sent (RFC 7692, section 7.2.1).
const MARKER: [u8; 4] = [0, 0, 0xff, 0xff];

/// Contexts that are used by one message after another.
type Shared<T> = RefCell<Vec<Box<T>>>;

thread_local! {
    static COMPRESSORS: Shared<Deflate> = const { RefCell::new(Vec::new()) };
    static INFLATERS: Shared<Inflate> = const { RefCell::new(Vec::new()) };
}

fn take<T>(shared: &'static LocalKey<Shared<T>>) -> Option<Box<T>> {
    shared.try_with(|it| it.borrow_mut().pop()).ok().flatten()
}

fn give_back<T>(shared: &'static LocalKey<Shared<T>>, context: Box<T>) {
    let _thread_ends = shared.try_with(|it| {
        let mut shared = it.borrow_mut();
        if shared.len() < SHARED_MAX {
            shared.push(context);
        }
    });
}

/// Compresses the messages of one socket.
pub(crate) struct Compressor {
    bits: u8,
    takeover: bool,
    context: Option<Box<Deflate>>,
}

impl Compressor {
    pub(super) fn new(bits: u8, takeover: bool) -> Self {
        Self { bits, takeover, context: None }
    }

    /// Compresses a part of a message. The output may come with a later part.
    pub(crate) fn compress(&mut self, mut part: &[u8], out: &mut Vec<u8>) {
        while !part.is_empty() {
            let (taken, _) = self.run(part, out, DeflateFlush::NoFlush);
            part = &part[taken..];
        }
    }

    /// Ends a message.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        while let (_, true) = self.run(&[], out, DeflateFlush::SyncFlush) {}
        if out.ends_with(&MARKER) {
            out.truncate(out.len() - MARKER.len());
        }
        if self.takeover {
            return;
        }
        if let Some(mut context) = self.context.take()
            && self.bits == WINDOW_BITS
        {
            context.reset();
            give_back(&COMPRESSORS, context);
        }
    }

    /// Returns how much was taken of the input, and whether the output was too small.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>, flush: DeflateFlush) -> (usize, bool) {
        let (bits, takeover) = (self.bits, self.takeover);
        let context = self.context.get_or_insert_with(|| {
            let shared = (!takeover && bits == WINDOW_BITS).then(|| take(&COMPRESSORS)).flatten();
            shared.unwrap_or_else(|| Box::new(compressor(bits)))
        });
        let (before, len) = (context.total_in(), out.len());
        let wrote = context.total_out();
        out.resize(len + CHUNK.max(input.len() / 2), 0);
        // Can only fail if the state is inconsistent.
        let done = context.compress(input, &mut out[len..], flush);
        let space = out.len() - len;
        let wrote = usize::try_from(context.total_out() - wrote).unwrap_or(0);
        out.truncate(len + wrote);
        match done {
            Ok(_) => (usize::try_from(context.total_in() - before).unwrap_or(0), wrote == space),
            Err(_) => (input.len(), false),
        }
    }
}

fn compressor(bits: u8) -> Deflate {
    Deflate::new_with_config(DeflateConfig {
        level: LEVEL,
        method: Method::Deflated,
        // Without zlib's header.
        window_bits: -i32::from(bits),
        mem_level: MEM_LEVEL,
        strategy: Strategy::Default,
    })
}

/// Decompresses the messages of one socket.
pub(crate) struct Inflater {
    bits: u8,
    takeover: bool,
    context: Option<Box<Inflate>>,
    /// How much of the marker was added at the end of the current message.
    marker: usize,
}

/// The data isn't compressed correctly.
#[derive(Debug)]
pub(crate) struct Corrupt;

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inflated {
    pub(crate) taken: usize,
    /// All output was written that the input led to.
    pub(crate) is_complete: bool,
}

impl Inflater {
    pub(super) fn new(bits: u8, takeover: bool) -> Self {
        Self { bits, takeover, context: None, marker: 0 }
    }

    /// Decompresses a part of a message, to at most `room` bytes.
    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        mut room: usize,
    ) -> Result<Inflated, Corrupt> {
        let (bits, takeover) = (self.bits, self.takeover);
        let context = self.context.get_or_insert_with(|| {
            let shared = (!takeover).then(|| take(&INFLATERS)).flatten();
            shared.unwrap_or_else(|| {
                Box::new(Inflate::new(false, if takeover { bits } else { WINDOW_BITS_MAX }))
            })
        });
        let mut taken = 0;
        loop {
            let space = room.min(CHUNK.max(4 * (input.len() - taken)));
            if space == 0 {
                return Ok(Inflated { taken, is_complete: false });
            }
            let (before, wrote, len) = (context.total_in(), context.total_out(), out.len());
            out.resize(len + space, 0);
            let status = context.decompress(&input[taken..], &mut out[len..], InflateFlush::SyncFlush);
            let more = usize::try_from(context.total_in() - before).unwrap_or(0);
            let wrote = usize::try_from(context.total_out() - wrote).unwrap_or(0);
            out.truncate(len + wrote);
            taken += more;
            room -= wrote;
            let ended = match status {
                // A final block, after which others may follow (RFC 7692, section 7.2.3.5).
                Ok(Status::StreamEnd) => {
                    context.reset(false);
                    true
                }
                Ok(_) => false,
                Err(_) => return Err(Corrupt),
            };
            if taken == input.len() && (wrote < space || ended) {
                return Ok(Inflated { taken, is_complete: true });
            }
            if more == 0 && wrote == 0 && !ended {
                return Err(Corrupt);
            }
        }
    }

    /// Ends a message. If the rest of it doesn't fit into `room`, this must be called again.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, room: usize) -> Result<Inflated, Corrupt> {
        let inflated = self.inflate(&MARKER[self.marker..], out, room)?;
        self.marker += inflated.taken;
        if inflated.is_complete {
            self.marker = 0;
            if !self.takeover
                && let Some(mut context) = self.context.take()
            {
                context.reset(false);
                give_back(&INFLATERS, context);
            }
        }
        Ok(inflated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(inflater: &mut Inflater, parts: &[&[u8]], room: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            let mut rest = *part;
            loop {
                let Inflated { taken, is_complete } = inflater.inflate(rest, &mut out, room).unwrap();
                rest = &rest[taken..];
                if is_complete {
                    break;
                }
            }
        }
        while !inflater.end(&mut out, room).unwrap().is_complete {}
        out
    }

    /// The examples of RFC 7692, section 7.2.3.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let mut inflater = Inflater::new(15, true);
        let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflated(&mut inflater, &[&first], 100), b"Hello");
        assert_eq!(inflated(&mut inflater, &[&[0xf2, 0x00, 0x11, 0x00, 0x00]], 100), b"Hello");
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(inflated(&mut inflater, &[&stored], 100), b"Hello");
        let is_final = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(inflated(&mut inflater, &[&is_final], 100), b"Hello");
        let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflated(&mut inflater, &[&two], 100), b"Hello");
    }

    #[test]
    fn random_messages_survive_whatever_was_agreed_on_and_however_they_are_split() {
        let mut random = fastrand::Rng::with_seed(3);
        for takeover in [true, false] {
            for bits in [9, 10, 12, 15] {
                let (mut compressor, mut inflater) =
                    (Compressor::new(bits, takeover), Inflater::new(bits, takeover));
                for _ in 0..60 {
                    let variety = random.u8(1..=255);
                    let message: Vec<u8> =
                        (0..random.usize(0..30_000)).map(|_| random.u8(0..variety)).collect();
                    let mut packed = Vec::new();
                    for part in message.chunks(random.usize(1..9000)) {
                        compressor.compress(part, &mut packed);
                    }
                    compressor.end(&mut packed);
                    let parts: Vec<_> = packed.chunks(random.usize(1..5000)).collect();
                    let room = random.usize(1..20_000);
                    assert_eq!(inflated(&mut inflater, &parts, room), message, "{takeover} {bits}");
                }
            }
        }
    }

    #[test]
    fn a_context_makes_the_second_message_smaller() {
        let message: Vec<u8> = (0..200_u8).map(|it| it.wrapping_mul(it) ^ it >> 3).collect();
        let packed = |compressor: &mut Compressor| {
            let mut out = Vec::new();
            compressor.compress(&message, &mut out);
            compressor.end(&mut out);
            out.len()
        };
        let mut kept = Compressor::new(12, true);
        assert!(packed(&mut kept) > 2 * packed(&mut kept));
        let mut fresh = Compressor::new(12, false);
        assert_eq!(packed(&mut fresh), packed(&mut fresh));
        assert!(fresh.context.is_none());
    }

    #[test]
    fn garbage_is_an_error() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut failed = 0;
        for _ in 0..2000 {
            let garbage: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
            let (mut inflater, mut out) = (Inflater::new(12, true), Vec::new());
            failed += usize::from(inflater.inflate(&garbage, &mut out, 1 << 20).is_err());
        }
        assert!(failed > 1000, "{failed}");
    }
}
