//! Checks UTF-8 that arrives in parts. A mistake is found with the byte that makes it one.

use std::str;

/// The state between two parts.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The beginning of a character.
    begun: [u8; 4],
    len: u8,
}

/// The text isn't UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

impl Utf8 {
    /// Checks the next part.
    pub(crate) fn check(&mut self, mut part: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((first, rest)) = part.split_first() else { return Ok(()) };
            self.begun[usize::from(self.len)] = *first;
            self.len += 1;
            part = rest;
            match str::from_utf8(&self.begun[..self.len.into()]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(Invalid),
            }
        }
        let Err(error) = str::from_utf8(part) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        for byte in &part[error.valid_up_to()..] {
            self.begun[usize::from(self.len)] = *byte;
            self.len += 1;
        }
        Ok(())
    }

    /// Checks that the text ends with a complete character.
    pub(crate) fn end(&self) -> Result<(), Invalid> {
        if self.len == 0 { Ok(()) } else { Err(Invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of bytes after which the text is refused, if it is. Its length stands for its end.
    fn refused_at(text: &[u8], size: usize) -> Option<usize> {
        let mut utf8 = Utf8::default();
        for (at, part) in text.chunks(size).enumerate() {
            if utf8.check(part).is_err() {
                return Some((at + 1) * size);
            }
        }
        utf8.end().is_err().then_some(text.len())
    }

    #[test]
    fn mistakes_are_found_at_once_however_the_text_is_split() {
        for text in ["", "a", "κόσμε", "€uro 𝄞", "\u{10ffff}\u{fffd}\0"] {
            for size in 1..8 {
                assert_eq!(refused_at(text.as_bytes(), size), None, "{text}");
            }
        }
        let cases: [(&[u8], usize); 8] = [
            (b"\xce\xba\xed\xa0\x80ed", 4),
            (b"\xf4\x90\x80\x80", 2),
            (b"a\xff", 2),
            (b"\xc0\xaf", 1),
            (b"\xe0\x80\xaf", 2),
            (b"\xf8\x88", 1),
            (b"ab\x80", 3),
            (b"\xf0\x9d\x84", 3),
        ];
        for (text, expected) in cases {
            assert_eq!(refused_at(text, 1), Some(expected), "{}", text.escape_ascii());
            assert!(refused_at(text, 100).is_some());
        }
    }

    #[test]
    fn random_bytes_are_judged_like_the_standard_library_does() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let alphabet = [b'a', 0x80, 0xbf, 0xc3, 0xe2, 0x82, 0xac, 0xf0, 0x9d, 0x84, 0x9e, 0xed, 0xf4];
            let text: Vec<u8> = (0..random.usize(..8)).map(|_| *random.choice(&alphabet).unwrap()).collect();
            let size = random.usize(1..4);
            assert_eq!(refused_at(&text, size).is_none(), str::from_utf8(&text).is_ok(), "{text:x?}");
        }
    }
}
