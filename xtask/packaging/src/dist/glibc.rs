//! Versions of glibc, and the oldest one that a release runs with.

use std::fmt;

/// The version of Debian 11 and Ubuntu 20.04.
pub(crate) const OLDEST_GLIBC: Glibc = Glibc(2, 31);

/// A version of glibc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc(pub(crate) u32, pub(crate) u32);

impl Glibc {
    /// Parses `GLIBC_2.31`, optionally with a third number. None if it isn't a glibc version.
    pub(crate) fn of_symbol(version: &str) -> Option<Self> {
        let mut numbers = version.strip_prefix("GLIBC_")?.split('.').map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (symbol, expected) in [
            ("GLIBC_2.2.5", Some(Glibc(2, 2))),
            ("GLIBC_2.31", Some(Glibc(2, 31))),
            ("GCC_3.0", None),
            ("GLIBC_PRIVATE", None),
        ] {
            assert_eq!(Glibc::of_symbol(symbol), expected, "{symbol}");
        }
        assert!(Glibc(2, 4) < Glibc(2, 31));
    }
}
