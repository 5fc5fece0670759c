//! The state of one request's response, and what to send of it next.

use std::sync::Arc;

use api::runner::{File, Header, Response};
use bytes::{Bytes, BytesMut};

use super::outbound::{End, Outbound};
use crate::executor::head::{self, Head};
use crate::link::body::{Budget, INLINE_LIMIT, Overrun, Shortfall};

/// The response to one request.
///
/// ```text
///             start            body             flush: it isn't complete
///   Nothing ───────▶ Started ───────▶ Gathering ────────────────────────▶ Streaming ──▶ Over
///      │                │                │ flush: it's complete, and small                ▲
///      └────────────────┴────────────────┴────────────────────────────────────────────────┘
///       fail: 500
/// ```
///
/// What an app sends within one turn of its loop is gathered. So a streamed response that is small costs as little as
/// one whole body, and no piece waits for the next.
#[derive(Debug)]
pub(super) struct Reply {
    stage: Stage,
    is_head: bool,
    /// The app's body is dropped.
    drops_body: bool,
}

#[derive(Debug)]
enum Stage {
    Nothing,
    /// The head is known. Whether trailers will follow the body.
    Started(Head, bool),
    Gathering(Box<Gathering>),
    Streaming(Stream),
    /// Nothing more is accepted.
    Over,
}

#[derive(Debug)]
struct Gathering {
    head: Head,
    chunks: Vec<Bytes>,
    size: usize,
    rest: Rest,
}

#[derive(Debug)]
struct Stream {
    outbound: Arc<Outbound>,
    rest: Rest,
}

/// What is missing of a response.
#[derive(Debug)]
struct Rest {
    budget: Budget,
    /// Trailers that the app has sent, if it announced some.
    trailers: Option<Vec<Header>>,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Open,
    /// Only trailers are missing.
    Ended,
    Complete,
}

/// What has to happen after the app has sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// This is to be flushed at the end of the turn.
    pub(super) flush: bool,
    /// The app has to wait.
    pub(super) is_full: bool,
    /// Bytes beyond the Content-Length, which were dropped.
    pub(super) overrun: Overrun,
}

/// What to send to frontd.
#[derive(Debug)]
pub(super) enum Flushed {
    Nothing,
    /// The whole response.
    Whole(Response),
    /// The head, whose body follows.
    Stream(Response, Arc<Outbound>),
}

/// Why the app can't send that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("the app sent http.response.start twice")]
    StartedTwice,
    #[error("the app sent {0} before http.response.start")]
    NotStarted(&'static str),
    #[error("the app sent {0} after the end of its response")]
    Ended(&'static str),
    #[error(
        "the app sent http.response.trailers, which its http.response.start hadn't announced with `trailers`"
    )]
    NoTrailers,
    #[error("the app sent http.response.pathsend after a part of the body")]
    FileAfterBody,
    #[error(transparent)]
    Short(#[from] Shortfall),
}

const BODY: &str = "http.response.body";
const TRAILERS: &str = "http.response.trailers";
const FILE: &str = "http.response.pathsend";

impl Reply {
    /// The response to a request, whose method may be HEAD.
    pub(super) fn to(method: &[u8]) -> Self {
        Self { stage: Stage::Nothing, is_head: method == b"HEAD", drops_body: false }
    }

    /// Sets the head, which is sent with the body.
    pub(super) fn start(&mut self, head: Head, trailers: bool) -> Result<(), ReplyError> {
        match self.stage {
            Stage::Nothing => {}
            Stage::Over => return Err(ReplyError::Ended("http.response.start")),
            _ => return Err(ReplyError::StartedTwice),
        }
        self.drops_body = self.is_head || !head::has_body(head.status) || head.file.is_some();
        self.stage = Stage::Started(head, trailers);
        Ok(())
    }

    /// Adds a part of the body. If `more`, others follow.
    pub(super) fn body(&mut self, mut body: Bytes, more: bool) -> Result<Progress, ReplyError> {
        let is_new = self.begin(BODY)?;
        if self.drops_body {
            // The response is complete, but a generator may continue.
            self.complete_without_body();
            return Ok(Progress { flush: is_new, is_full: false, overrun: Overrun(0) });
        }
        let rest = self.rest().filter(|it| it.body == Body::Open).ok_or(ReplyError::Ended(BODY))?;
        let overrun = rest.budget.spend(&mut body);
        if !more {
            if let Some(short) = rest.budget.shortfall() {
                return Err(short.into());
            }
            rest.body = if rest.trailers.is_some() { Body::Ended } else { Body::Complete };
        }
        let is_complete = rest.body == Body::Complete;
        let mut is_full = false;
        match &mut self.stage {
            Stage::Gathering(gathering) => {
                gathering.size += body.len();
                if !body.is_empty() {
                    gathering.chunks.push(body);
                }
                is_full = !is_complete && gathering.size >= INLINE_LIMIT;
            }
            Stage::Streaming(stream) => {
                if !body.is_empty() {
                    stream.outbound.push(body);
                }
                if is_complete {
                    stream.outbound.end(End::Complete(Vec::new()));
                }
                is_full = more && stream.outbound.is_full();
            }
            _ => {}
        }
        self.end_if_streamed();
        Ok(Progress { flush: is_new || is_complete, is_full, overrun })
    }

    /// Adds trailers. If `more`, others follow.
    pub(super) fn trailers(&mut self, trailers: Vec<Header>, more: bool) -> Result<Progress, ReplyError> {
        let is_new = self.begin(TRAILERS)?;
        let progress = Progress { flush: is_new || !more, is_full: false, overrun: Overrun(0) };
        let drops_body = self.drops_body;
        let Some(rest) = self.rest() else {
            return if drops_body { Ok(progress) } else { Err(ReplyError::Ended(TRAILERS)) };
        };
        let all = rest.trailers.as_mut().ok_or(ReplyError::NoTrailers)?;
        all.extend(trailers);
        if !more {
            rest.body = Body::Complete;
            let trailers = std::mem::take(all);
            match &mut self.stage {
                Stage::Streaming(stream) => stream.outbound.end(End::Complete(trailers)),
                Stage::Gathering(gathering) => gathering.rest.trailers = Some(trailers),
                _ => {}
            }
            self.end_if_streamed();
        }
        Ok(progress)
    }

    /// The Content-Length that the app has set, before the body.
    pub(super) fn content_length(&self) -> Option<u64> {
        match &self.stage {
            Stage::Started(head, _) => head.content_length,
            _ => None,
        }
    }

    /// Has frontd send a file as the body.
    pub(super) fn file(&mut self, file: File) -> Result<Progress, ReplyError> {
        let Stage::Started(head, _) = &mut self.stage else {
            return Err(match self.stage {
                Stage::Nothing => ReplyError::NotStarted(FILE),
                Stage::Over => ReplyError::Ended(FILE),
                _ => ReplyError::FileAfterBody,
            });
        };
        if !self.drops_body {
            head.file = Some(Box::new(file));
            self.drops_body = true;
        }
        self.begin(FILE)?;
        self.complete_without_body();
        Ok(Progress { flush: true, is_full: false, overrun: Overrun(0) })
    }

    /// Whether the app has sent everything.
    pub(super) fn is_complete(&self) -> bool {
        match &self.stage {
            Stage::Gathering(gathering) => gathering.rest.body == Body::Complete,
            Stage::Over => true,
            Stage::Nothing | Stage::Started(..) | Stage::Streaming(_) => false,
        }
    }

    /// Whether frontd sends a file as its body, which isn't flushed yet.
    pub(super) fn names_file(&self) -> bool {
        matches!(&self.stage, Stage::Gathering(gathering) if gathering.head.file.is_some())
    }

    /// Whether the app has sent a part of the body, which can't be taken back.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.stage, Stage::Nothing | Stage::Started(..))
    }

    /// Whether a `send` that waits may continue.
    pub(super) fn has_room(&self) -> bool {
        match &self.stage {
            Stage::Gathering(_) => false,
            Stage::Streaming(stream) => stream.outbound.has_room(),
            Stage::Nothing | Stage::Started(..) | Stage::Over => true,
        }
    }

    /// Returns what is to be sent of request `id`.
    pub(super) fn flush(&mut self, id: u64) -> Flushed {
        let gathering = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Gathering(gathering) => *gathering,
            other => {
                self.stage = other;
                return Flushed::Nothing;
            }
        };
        let Gathering { head, chunks, size, rest } = gathering;
        let file = head.file.filter(|_| !self.is_head && head::has_body(head.status));
        let response = Response {
            id,
            status: head.status.into(),
            reason: head.reason,
            headers: head.headers,
            file,
            ..Response::default()
        };
        if rest.body == Body::Complete && rest.trailers.is_none() && size <= INLINE_LIMIT {
            return Flushed::Whole(Response { body: joined(chunks, size), ..response });
        }
        let outbound = Arc::new(Outbound::with(chunks));
        match rest.body {
            Body::Complete => outbound.end(End::Complete(rest.trailers.unwrap_or_default())),
            Body::Open | Body::Ended => {
                self.stage = Stage::Streaming(Stream { outbound: Arc::clone(&outbound), rest });
            }
        }
        Flushed::Stream(Response { streamed: true, ..response }, outbound)
    }

    /// The app has failed. Returns true if an error can be sent in place of the response. Otherwise, its body is cut.
    pub(super) fn fail(&mut self) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Nothing | Stage::Started(..) => true,
            // Nothing was sent yet. A complete response remains.
            Stage::Gathering(gathering) if gathering.rest.body == Body::Complete => {
                self.stage = Stage::Gathering(gathering);
                false
            }
            Stage::Gathering(_) => true,
            Stage::Streaming(stream) => {
                stream.outbound.end(End::Cut("the app failed"));
                false
            }
            Stage::Over => false,
        }
    }

    /// Begins the body. Returns whether nothing of it was sent before.
    fn begin(&mut self, what: &'static str) -> Result<bool, ReplyError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Nothing => {
                self.stage = Stage::Nothing;
                Err(ReplyError::NotStarted(what))
            }
            Stage::Over if !self.drops_body => Err(ReplyError::Ended(what)),
            Stage::Started(head, trailers) => {
                let budget = Budget::new(head.content_length);
                let rest = Rest { budget, trailers: trailers.then(Vec::new), body: Body::Open };
                self.stage =
                    Stage::Gathering(Box::new(Gathering { head, chunks: Vec::new(), size: 0, rest }));
                Ok(true)
            }
            begun => {
                self.stage = begun;
                Ok(false)
            }
        }
    }

    fn complete_without_body(&mut self) {
        if let Some(rest) = self.rest() {
            rest.body = Body::Complete;
            rest.trailers = None;
        }
    }

    fn rest(&mut self) -> Option<&mut Rest> {
        match &mut self.stage {
            Stage::Gathering(gathering) => Some(&mut gathering.rest),
            Stage::Streaming(stream) => Some(&mut stream.rest),
            Stage::Nothing | Stage::Started(..) | Stage::Over => None,
        }
    }

    fn end_if_streamed(&mut self) {
        if matches!(&self.stage, Stage::Streaming(stream) if stream.rest.body == Body::Complete) {
            self.stage = Stage::Over;
        }
    }
}

fn joined(mut chunks: Vec<Bytes>, size: usize) -> Bytes {
    match chunks.len() {
        0 => Bytes::new(),
        1 => chunks.swap_remove(0),
        _ => {
            let mut whole = BytesMut::with_capacity(size);
            chunks.iter().for_each(|it| whole.extend_from_slice(it));
            whole.freeze()
        }
    }
}

#[cfg(test)]
mod tests;
