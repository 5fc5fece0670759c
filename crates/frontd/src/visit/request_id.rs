//! Identifies a request in the logs of frontd and of the worker.

use std::fmt;

/// Number of hexadecimal digits.
const DIGITS: usize = 16;

/// A random id of 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId(u64);

impl RequestId {
    pub(crate) fn new() -> Self {
        Self(fastrand::u64(..))
    }

    /// The digits, as displayed.
    pub(crate) fn digits(self) -> [u8; DIGITS] {
        let bytes = self.0.to_be_bytes();
        std::array::from_fn(|at| b"0123456789abcdef"[usize::from(bytes[at / 2] >> (4 * (1 - at % 2)) & 15)])
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_as_displayed() {
        for number in [0, 0x0123_4567_89ab_cdef, u64::MAX] {
            let id = RequestId(number);
            assert_eq!(str::from_utf8(&id.digits()).unwrap(), id.to_string());
        }
    }
}
