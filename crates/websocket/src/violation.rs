//! What clients do wrong, and the codes to close with.

use crate::close::Close;
use crate::deflate::Corrupt;
use crate::utf8::Invalid;

/// Why a client must be disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The protocol was violated.
    #[error("{0}")]
    Protocol(&'static str),
    /// Text that isn't UTF-8.
    #[error("a text isn't UTF-8")]
    Text,
    /// A message exceeds the limit.
    #[error("a message is too large")]
    TooLarge,
    /// Too many empty fragments.
    #[error("a message has too many empty fragments")]
    EmptyFragments,
}

impl Violation {
    /// The code to close with.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => Close::PROTOCOL_ERROR,
            Self::Text => Close::INVALID_TEXT,
            Self::TooLarge => Close::TOO_LARGE,
            Self::EmptyFragments => Close::POLICY,
        }
    }
}

impl From<Invalid> for Violation {
    fn from(_: Invalid) -> Self {
        Self::Text
    }
}

impl From<Corrupt> for Violation {
    fn from(_: Corrupt) -> Self {
        Self::Protocol("a message isn't compressed correctly")
    }
}
