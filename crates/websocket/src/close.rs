//! Close frames: their codes and reasons (RFC 6455, sections 5.5.1 and 7.4).

/// Maximum payload of a control frame.
pub(crate) const CONTROL_MAX: usize = 125;

/// The content of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// `None` if the frame was empty.
    pub code: Option<u16>,
    /// Empty if there is no code.
    pub reason: String,
}

impl Close {
    /// The end of a session that has served its purpose.
    pub const NORMAL: u16 = 1000;
    /// The server is about to stop.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer has violated the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Never in a frame: the peer's close frame had no code.
    pub const NO_CODE: u16 = 1005;
    /// Never in a frame: the connection ended without a close frame.
    pub const ABNORMAL: u16 = 1006;
    /// Text that isn't UTF-8.
    pub const INVALID_TEXT: u16 = 1007;
    /// The peer breaks a rule that has no code of its own.
    pub const POLICY: u16 = 1008;
    /// A message is too large.
    pub const TOO_LARGE: u16 = 1009;
    /// The server failed.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The service restarts: the client may connect again.
    pub const RESTART: u16 = 1012;
    /// The server is overloaded: the client should connect again later.
    pub const TRY_AGAIN_LATER: u16 = 1013;

    /// Returns a close frame with a code. A `code` that must not be in a frame stands for none. The reason is shortened to what
    /// fits.
    #[must_use]
    pub fn new(code: u16, reason: &str) -> Self {
        if !is_sendable(code) {
            return Self { code: None, reason: String::new() };
        }
        let mut len = reason.len().min(CONTROL_MAX - 2);
        while !reason.is_char_boundary(len) {
            len -= 1;
        }
        Self { code: Some(code), reason: reason[..len].to_owned() }
    }

    /// The code, where none is 1005.
    #[must_use]
    pub fn code_or_none(&self) -> u16 {
        self.code.unwrap_or(Self::NO_CODE)
    }

    /// The payload of the frame.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self.code {
            Some(code) => [&code.to_be_bytes(), self.reason.as_bytes()].concat(),
            None => Vec::new(),
        }
    }
}

/// Whether a frame may have this code: those that are registered, and those for libraries and apps.
pub(crate) fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_shortened_at_a_character_and_codes_for_no_frame_are_left_out() {
        let close = Close::new(1000, &"ä".repeat(100));
        assert_eq!(close.reason, "ä".repeat(61));
        assert_eq!(close.payload().len(), 124);
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert_eq!(Close::new(code, "x").payload(), b"");
            assert_eq!(Close::new(code, "x").code_or_none(), 1005);
        }
        assert_eq!(Close::new(4999, "ok").payload(), b"\x13\x87ok");
    }
}
