//! Parses the frames that h2 writes, because h2 doesn't report when it resets a malformed request.
//!
//! h2 responds to a request that it can't parse with RST_STREAM and PROTOCOL_ERROR (RFC 9113, section 8.1.1),
//! and neither hyper nor the service sees it. The frame is detected on its way out.

use h2::Reason;

/// Length of a frame header: length, type, flags and stream id (RFC 9113, section 4.1).
const HEAD: usize = 9;

/// Length of an RST_STREAM frame.
const RESET: usize = HEAD + 4;
const RST_STREAM: u8 = 3;

/// The position of the written data within the frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The beginning of the current frame.
    begun: [u8; RESET],
    /// How many bytes of `begun` are filled.
    len: usize,
    /// Remaining bytes of the current frame that don't matter.
    skip: usize,
}

impl Frames {
    /// Whether the next byte starts a new frame.
    pub(crate) fn is_between(&self) -> bool {
        self.len == 0 && self.skip == 0
    }

    /// Processes written data. Returns how many requests were reset as malformed.
    pub(crate) fn follow(&mut self, mut written: &[u8]) -> usize {
        let mut malformed = 0;
        loop {
            let skipped = self.skip.min(written.len());
            self.skip -= skipped;
            written = &written[skipped..];
            let wanted = if self.len < HEAD { HEAD } else { RESET };
            let taken = (wanted - self.len).min(written.len());
            if taken == 0 {
                return malformed;
            }
            self.begun[self.len..self.len + taken].copy_from_slice(&written[..taken]);
            self.len += taken;
            written = &written[taken..];
            match self.len {
                HEAD => {
                    let [a, b, c, kind, ..] = self.begun;
                    let length = u32::from_be_bytes([0, a, b, c]) as usize;
                    if kind != RST_STREAM || length != RESET - HEAD {
                        (self.len, self.skip) = (0, length);
                    }
                }
                RESET => {
                    let [.., a, b, c, d] = self.begun;
                    malformed +=
                        usize::from(Reason::from(u32::from_be_bytes([a, b, c, d])) == Reason::PROTOCOL_ERROR);
                    self.len = 0;
                }
                _ => return malformed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn resets_are_found_however_the_frames_are_split() {
        let malformed = frame(RST_STREAM, &[0, 0, 0, 1]);
        let data = frame(0, &malformed.repeat(1000));
        let others = [frame(4, &[]), frame(RST_STREAM, &[0, 0, 0, 8]), frame(3, &[0, 0, 1]), data].concat();
        let all = [others.clone(), malformed.clone(), malformed, others].concat();
        for size in [1, 2, 3, 8, 9, 10, 13, 14, 1000, all.len()] {
            let mut frames = Frames::default();
            let found: usize = all.chunks(size).map(|it| frames.follow(it)).sum();
            assert_eq!(found, 2, "{size} bytes at a time");
            assert!(frames.is_between());
            frames.follow(&[0; 12]);
            assert!(!frames.is_between());
        }
    }
}
