//! Calls of the app for WebSockets (ASGI, "WebSocket"): the handshake, messages, and the end.

mod message;

use std::sync::Arc;

use api::runner::Response;
use api::runner::serve_response::Message;
use bytes::Bytes;
use pyo3::exceptions::{PyBrokenPipeError, PyRuntimeError};
use pyo3::prelude::*;

use self::message::Sent;
use super::call::{Call, Missing, Protocol};
use super::reply::{Flushed, Reply};
use crate::executor::head::{Head, HeadBuilder};
use crate::link::active::ActiveRequest;
use crate::link::websocket::{Closed, Next, WebSocket};

/// The status of a handshake that was accepted.
const SWITCHING: u32 = 101;
/// The status of one that the app has closed.
const FORBIDDEN: u16 = 403;
/// RFC 6455, section 7.4.1.
const NORMAL: u32 = 1000;
const ABNORMAL: u32 = 1006;
const APP_FAILED: u32 = 1011;

/// The app's side of one WebSocket.
#[derive(Default)]
pub(super) struct Socket {
    stage: Stage,
    /// The app has received `websocket.connect`.
    is_connected: bool,
    /// The code that the app has closed it with.
    close_code: Option<u32>,
}

/// ```text
///   Handshake ──accept──▶ Open ──close, the client's end──▶ Closed
///       │ http.response.start                                  ▲
///       ├─────────────────────▶ Denying ──────────────────────┤
///       └── close: 403; failure: 500 ─────────────────────────┘
/// ```
#[derive(Default)]
enum Stage {
    #[default]
    Handshake,
    Open,
    Denying(Reply),
    Closed,
}

impl Stage {
    /// Whether nothing more comes from the client.
    fn is_over(&self) -> bool {
        match self {
            Self::Handshake | Self::Open => false,
            Self::Denying(reply) => reply.is_complete(),
            Self::Closed => true,
        }
    }

    /// The error for a message that can't be sent in this stage.
    fn misplaced(&self, what: &str) -> PyErr {
        let when = match self {
            Self::Handshake => "before it has accepted or refused the WebSocket",
            Self::Open => "although it has accepted the WebSocket",
            Self::Denying(_) => "although it has refused the WebSocket",
            Self::Closed => "although it has closed the WebSocket",
        };
        PyRuntimeError::new_err(format!("the app sent {what} {when}"))
    }
}

impl Protocol for Socket {
    type Signals = ();

    const WHAT: &'static str = "a WebSocket";

    fn next(call: &Arc<Call<Self>>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !std::mem::replace(&mut call.lock().protocol.is_connected, true) {
            return message::connect(py).map(Some);
        }
        match websocket(&call.active)?.take(call.active.id, &call.active.session) {
            Next::Message(received) => {
                // Credit may have been returned.
                call.shared.event_loop.turn_soon(py)?;
                call.shared.count_message();
                message::receive(py, &received).map(Some)
            }
            Next::Closed(closed) => message::disconnect(py, &closed).map(Some),
            Next::Later => {
                let (is_over, code) = {
                    let Self { stage, close_code, .. } = &call.lock().protocol;
                    (stage.is_over() || call.active.is_gone(), close_code.unwrap_or(ABNORMAL))
                };
                let closed = Closed { code, reason: String::new() };
                is_over.then(|| message::disconnect(py, &closed)).transpose()
            }
        }
    }

    fn can_receive(call: &Call<Self>) -> bool {
        let has_event = websocket(&call.active).is_ok_and(WebSocket::is_ready);
        has_event || call.active.is_gone() || call.lock().protocol.stage.is_over()
    }

    fn send<'py>(call: &Arc<Call<Self>>, message: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = message.py();
        let sent = message::parse(message)?;
        if call.active.is_gone() && !matches!(call.lock().protocol.stage, Stage::Closed) {
            return Err(gone());
        }
        match sent {
            Sent::Accept(head) => call.accept(py, head)?,
            Sent::Message { payload, text } => return call.send_message(py, payload, text),
            Sent::Close { code, reason } => call.close(py, code, reason)?,
            Sent::DenyStart(head) => {
                let stage = &mut call.lock().protocol.stage;
                if !matches!(stage, Stage::Handshake) {
                    return Err(stage.misplaced("websocket.http.response.start"));
                }
                let mut reply = Reply::to(b"GET");
                reply.start(head, false)?;
                *stage = Stage::Denying(reply);
            }
            Sent::DenyBody { body, more } => {
                call.answer()?;
                let progress = match &mut call.lock().protocol.stage {
                    Stage::Denying(reply) => reply.body(body, more)?,
                    stage => return Err(stage.misplaced("websocket.http.response.body")),
                };
                return call.proceed(py, progress);
            }
        }
        Ok(None)
    }

    fn can_send(call: &Call<Self>) -> bool {
        if call.active.is_gone() {
            return true;
        }
        match &call.lock().protocol.stage {
            Stage::Denying(reply) => reply.has_room(),
            _ => is_flushed(&call.active),
        }
    }

    fn flush(call: &Arc<Call<Self>>) -> Flushed {
        match &mut call.lock().protocol.stage {
            Stage::Denying(reply) => reply.flush(call.active.id),
            _ => Flushed::Nothing,
        }
    }

    fn made_room(_call: &Call<Self>) {}

    fn end(&mut self, active: &ActiveRequest, has_failed: bool) -> Missing {
        if let Stage::Denying(reply) = &mut self.stage {
            if reply.is_complete() {
                return Missing::Nothing;
            }
            if !reply.fail() {
                return Missing::Rest;
            }
        }
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Open => {
                let code = if has_failed { APP_FAILED } else { NORMAL };
                if let Some(websocket) = active.websocket() {
                    websocket.close(active.id, code, String::new(), &active.session);
                }
                Missing::Nothing
            }
            Stage::Handshake | Stage::Denying(_) => Missing::Response,
            Stage::Closed => Missing::Nothing,
        }
    }

    /// `send` after the client's end.
    fn is_harmless(active: &ActiveRequest, error: &PyErr, py: Python<'_>) -> bool {
        let is_closed = active.is_gone() || active.websocket().is_some_and(|it| it.closed().is_some());
        is_closed && error.is_instance_of::<PyBrokenPipeError>(py)
    }

    fn incomplete(missing: Missing) -> &'static str {
        match missing {
            Missing::Rest => "the app returned before the end of the response that refuses a WebSocket",
            Missing::Response | Missing::Nothing => {
                "the app returned without accepting or closing a WebSocket"
            }
        }
    }

    fn is_sent(&self, active: &ActiveRequest) -> bool {
        is_flushed(active) || active.is_gone()
    }
}

impl Call<Socket> {
    fn accept(&self, py: Python<'_>, head: Head) -> PyResult<()> {
        {
            let stage = &self.lock().protocol.stage;
            if !matches!(stage, Stage::Handshake) {
                return Err(stage.misplaced("websocket.accept"));
            }
        }
        self.answer()?;
        // An open WebSocket has no limit.
        self.active.deadline.leave();
        self.lock().protocol.stage = Stage::Open;
        self.shared.requests.accept_socket(&self.active);
        self.shared.shutdown.socket_opened();
        self.shared.event_loop.turn_soon(py)?;
        let response =
            Response { id: self.active.id, status: SWITCHING, headers: head.headers, ..Response::default() };
        self.active.session.send(Message::Response(response));
        // A worker that drains may have told the others to close before.
        self.shared.close_if_too_late(&self.active);
        Ok(())
    }

    fn send_message<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        payload: Bytes,
        text: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.lock().protocol {
            Socket { stage: Stage::Open, .. } => {}
            // The client's end, or that of the app's call.
            Socket { stage: Stage::Closed, close_code: None, .. } => return Err(gone()),
            Socket { stage, .. } => return Err(stage.misplaced("websocket.send")),
        }
        // What is sent wakes the connection's task, which then needn't wake the loop.
        self.shared.event_loop.turn_soon(py)?;
        let websocket = websocket(&self.active)?;
        websocket.send(self.active.id, payload, text, &self.active.session).map_err(|_| gone())?;
        self.shared.count_message();
        if websocket.is_flushed() { Ok(None) } else { self.writer(py).map(Some) }
    }

    fn close(self: &Arc<Self>, py: Python<'_>, code: u32, reason: String) -> PyResult<()> {
        let before = std::mem::replace(&mut self.lock().protocol.stage, Stage::Closed);
        match before {
            Stage::Open => {
                self.lock().protocol.close_code = Some(code);
                self.shared.event_loop.turn_soon(py)?;
                websocket(&self.active)?.close(self.active.id, code, reason, &self.active.session);
                self.settle_later(py)
            }
            Stage::Handshake => self.refuse(py),
            Stage::Denying(reply) => {
                let stage = &mut self.lock().protocol.stage;
                *stage = Stage::Denying(reply);
                Err(stage.misplaced("websocket.close"))
            }
            // As in a `finally` after the client's end.
            Stage::Closed => Ok(()),
        }
    }

    /// The app has closed the socket before it accepted it.
    fn refuse(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        self.answer()?;
        let mut reply = Reply::to(b"GET");
        reply.start(HeadBuilder::with_number(FORBIDDEN)?.build(), false)?;
        reply.body(Bytes::new(), false)?;
        self.lock().protocol.stage = Stage::Denying(reply);
        self.settle_later(py)
    }
}

fn websocket(active: &ActiveRequest) -> PyResult<&WebSocket> {
    active.websocket().ok_or_else(|| PyRuntimeError::new_err("this request isn't a WebSocket"))
}

/// Whether all messages have left.
fn is_flushed(active: &ActiveRequest) -> bool {
    active.websocket().is_none_or(WebSocket::is_flushed)
}

fn gone() -> PyErr {
    PyBrokenPipeError::new_err("send a message: the WebSocket is closed")
}
