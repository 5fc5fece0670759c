//! The requests to the apps, and their expected responses.

use std::fmt;
use std::sync::LazyLock;

use ::tests::client::{Answer, Body, empty, full, in_pieces, request};
use ::tests::pattern::{Pattern, sha256};
use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request};

use super::outcome::Outcome;
use super::site::App;

const PIECE: usize = 10_000;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// A GET whose query is returned.
    Echo,
    /// A POST whose body is returned.
    EchoBody,
    /// A large response with a known length.
    Whole(Size),
    /// A large response in chunks.
    Stream(Size),
    /// A few lines at intervals.
    Drip,
    /// Server-sent events for a while.
    Events,
    /// A large body in chunks, which is returned while it arrives.
    Relay(Size),
    /// A large body with a known length.
    Upload(Size),
    /// A large body in chunks.
    UploadInPieces(Size),
    /// A GET whose handler logs more than a pipe can hold.
    Loud,
    /// A GET that takes too long.
    TooLong,
    /// A POST that takes too long.
    TooLongBody,
    /// A POST that kills its worker.
    Deadly,
    /// A GET that kills its worker, and is retried on another one.
    DeadlyTwice,
}

/// One of the sizes of large bodies. They are around the limits between different ways of sending them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(u8);

struct Large {
    bytes: Bytes,
    sha256: String,
}

/// Computed once, since they are many and long.
static LARGE: LazyLock<[Large; 4]> = LazyLock::new(|| {
    [65_000, 66_000, 300_000, 1_500_000].map(|length| {
        let bytes: Bytes = Pattern::of(length).flatten().collect::<Vec<u8>>().into();
        Large { sha256: sha256(&bytes), bytes }
    })
});

impl Size {
    fn any(random: &mut Rng) -> Self {
        Self(random.u8(..4))
    }

    fn large(self) -> &'static Large {
        &LARGE[usize::from(self.0)]
    }

    fn bytes(self) -> Bytes {
        self.large().bytes.clone()
    }
}

impl Question {
    /// A random harmless request to that app, mostly a small one.
    pub(crate) fn any(app: App, random: &mut Rng) -> Self {
        match random.u16(..1000) {
            0..30 if app == App::Async => Self::Events,
            30..60 if app == App::Async => Self::Relay(Size::any(random)),
            _ => Self::any_of_all(random),
        }
    }

    fn any_of_all(random: &mut Rng) -> Self {
        match random.u16(..1000) {
            0..550 => Self::Echo,
            550..850 => Self::EchoBody,
            850..890 => Self::Whole(Size::any(random)),
            890..930 => Self::Stream(Size::any(random)),
            930..945 => Self::Drip,
            945..970 => Self::Upload(Size::any(random)),
            970..998 => Self::UploadInPieces(Size::any(random)),
            998 => Self::TooLong,
            _ => Self::TooLongBody,
        }
    }

    /// Whether it is safe (RFC 9110, 9.2.1).
    pub(crate) fn is_safe(self) -> bool {
        self.method() == Method::GET
    }

    /// Whether the server responds, since the app's own response never arrives.
    pub(crate) fn has_no_answer(self) -> bool {
        self.due() != 200
    }

    /// Whether it kills its worker.
    pub(crate) fn is_deadly(self) -> bool {
        self.due() == 502
    }

    fn due(self) -> u16 {
        match self {
            Self::TooLong | Self::TooLongBody => 504,
            Self::Deadly | Self::DeadlyTwice => 502,
            _ => 200,
        }
    }

    fn method(self) -> Method {
        match self {
            Self::EchoBody
            | Self::Relay(_)
            | Self::Upload(_)
            | Self::UploadInPieces(_)
            | Self::TooLongBody
            | Self::Deadly => Method::POST,
            _ => Method::GET,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Echo | Self::EchoBody => "/echo",
            Self::Whole(_) => "/whole",
            Self::Stream(_) => "/stream",
            Self::Drip => "/drip",
            Self::Events => "/events",
            Self::Relay(_) => "/relay",
            Self::Loud => "/loud",
            Self::Upload(_) | Self::UploadInPieces(_) => "/digest",
            Self::TooLong | Self::TooLongBody => "/sleep",
            Self::Deadly | Self::DeadlyTwice => "/exit",
        }
    }

    /// Returns the request with that number.
    pub(crate) fn request(self, id: u64) -> Request<Body> {
        let body = match self {
            Self::EchoBody => full(body(id)),
            Self::Upload(size) => full(size.bytes()),
            Self::UploadInPieces(size) | Self::Relay(size) => in_pieces(&size.bytes(), PIECE),
            _ => empty(),
        };
        request(self.method(), &format!("{}?{}", self.path(), self.query(id)), body)
    }

    fn query(self, id: u64) -> String {
        match self {
            Self::Whole(size) | Self::Stream(size) => format!("id={id}&bytes={}", size.large().bytes.len()),
            _ => format!("id={id}"),
        }
    }

    /// Checks the response to the request with that number.
    pub(crate) fn judge(self, id: u64, answer: &Answer) -> Outcome {
        let status = answer.status.as_u16();
        if status != self.due() {
            Outcome::Status(status)
        } else if self.has_no_answer() || answer.body == self.content(id) {
            Outcome::Right
        } else {
            let begin: String = answer.text().chars().take(60).collect();
            Outcome::Wrong(format!("{} bytes: {begin:?}", answer.body.len()).into())
        }
    }

    fn content(self, id: u64) -> Bytes {
        match self {
            Self::EchoBody => body(id),
            Self::Whole(size) | Self::Stream(size) | Self::Relay(size) => size.bytes(),
            Self::Events => {
                (0..20).map(|number| format!("data: {id}:{number}\n\n")).collect::<String>().into()
            }
            Self::Drip => (0..5).map(|number| format!("{id}:{number}\n")).collect::<String>().into(),
            Self::Upload(size) | Self::UploadInPieces(size) => {
                let Large { bytes, sha256 } = size.large();
                format!("{} {sha256}", bytes.len()).into()
            }
            _ => self.query(id).into(),
        }
    }
}

/// A body whose length differs between requests.
fn body(id: u64) -> Bytes {
    format!("{id};").repeat(usize::try_from(id % 97).unwrap_or_default()).into()
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self:?}", self.method())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode, Version};

    fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, version: Version::HTTP_11, headers: HeaderMap::new(), body: body.into() }
    }

    #[test]
    fn the_content_of_another_request_is_wrong() {
        assert_eq!(Question::Echo.judge(7, &answer(200, "id=7")), Outcome::Right);
        assert!(matches!(Question::Echo.judge(7, &answer(200, "id=8")), Outcome::Wrong(_)));
        assert_eq!(Question::Echo.judge(7, &answer(502, "id=7")), Outcome::Status(502));
        assert_eq!(Question::TooLong.judge(7, &answer(504, "too long")), Outcome::Right);
        assert_eq!(Question::TooLong.judge(7, &answer(200, "id=7")), Outcome::Status(200));
    }

    #[test]
    fn a_missing_byte_is_wrong() {
        let size = Size(2);
        assert_eq!(Question::Stream(size).judge(1, &answer(200, size.bytes())), Outcome::Right);
        let less = size.bytes().slice(1..);
        assert!(matches!(Question::Whole(size).judge(1, &answer(200, less)), Outcome::Wrong(_)));
    }

    #[test]
    fn every_kind_is_sent() {
        let mut random = Rng::with_seed(1);
        let mut ask = |app| (0..20_000).map(|_| Question::any(app, &mut random)).collect::<Vec<_>>();
        let asked = ask(App::Single);
        assert!(asked.contains(&Question::TooLong) && asked.contains(&Question::Upload(Size(3))));
        assert!(asked.iter().all(|it| !it.is_deadly()));
        assert!(!asked.contains(&Question::Events));
        let asked = ask(App::Async);
        assert!(asked.contains(&Question::Events) && asked.contains(&Question::Relay(Size(3))));
    }
}
