//! What clients do with WebSockets, and what may become of each.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tests::client::Protocol;
use tests::echoes::Ended;

use super::site::App;

/// A kind of conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// That many numbered messages, each of which is returned.
    Echo(u64),
    /// That many numbered messages, each of which all members of a chat get.
    Chat(u64),
    /// Nothing for that long, then one message. Pings come meanwhile.
    Idle(Duration),
    /// Numbered messages until the server closes it.
    Endless,
}

impl Talk {
    /// A random conversation that ends by itself.
    pub(crate) fn any(random: &mut Rng, longest_idle: Duration) -> Self {
        let milliseconds = u64::try_from(longest_idle.as_millis()).unwrap_or(u64::MAX).max(1);
        match random.u8(..100) {
            0..70 => Self::Echo(random.u64(1..150)),
            70..90 => Self::Chat(random.u64(1..50)),
            _ => Self::Idle(Duration::from_millis(random.u64(..milliseconds))),
        }
    }

    /// The path in the app.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat(_) => "/chat",
            Self::Echo(_) | Self::Idle(_) | Self::Endless => "/echo",
        }
    }
}

/// A WebSocket, from its client's view.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) app: App,
    pub(crate) protocol: Protocol,
    pub(crate) talk: Talk,
    /// When the handshake was sent, since the start of the soak.
    pub(crate) sent: Duration,
    /// When it had ended.
    pub(crate) done: Duration,
    /// How many messages came back.
    pub(crate) messages: u64,
    pub(crate) fate: Fate,
}

/// The end of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The handshake got this status.
    Refused(u16),
    /// The handshake got no response.
    NoResponse(Box<str>),
    /// It was opened.
    Opened(Ended),
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, app, protocol, talk, sent, done, messages, fate } = self;
        write!(
            f,
            "WebSocket {id} of {app} over {protocol}, {talk:?}, from {sent:.3?} to {done:.3?}, {messages} messages: {fate:?}"
        )
    }
}
