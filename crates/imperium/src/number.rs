//! Numbers on the command line.

use std::str::FromStr;

/// Parses a number from 1 to `MAX`.
///
/// # Errors
/// Returns what to write instead.
pub(crate) fn from_1_to<const MAX: u16>(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|it| (1..=MAX).contains(it));
    number.ok_or_else(|| format!("write a number from 1 to {MAX}"))
}

/// Parses any number.
///
/// # Errors
/// Returns what to write instead.
pub(crate) fn any<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_within_their_limits() {
        assert_eq!(from_1_to::<256>("256"), Ok(256));
        for bad in ["0", "257", "two", "-1", "1.5", ""] {
            assert_eq!(from_1_to::<256>(bad), Err("write a number from 1 to 256".to_owned()), "{bad}");
        }
        assert_eq!((any("0"), any("70000")), (Ok(0_u32), Ok(70_000_usize)));
        assert_eq!(any::<u32>("abc"), Err("write a number".to_owned()));
    }
}
