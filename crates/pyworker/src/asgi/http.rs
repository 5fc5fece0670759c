//! Calls of the app for requests: what it receives and sends.

mod file;
mod message;

use std::sync::Arc;

use api::runner::EarlyHints;
use api::runner::serve_response::Message;
use pyo3::exceptions::{PyBrokenPipeError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::Notify;

use self::message::Sent;
use super::call::{Call, Missing, Protocol, Stage};
use super::inbound::{Inbound, Received};
use super::reply::{Flushed, Reply, ReplyError};
use crate::link::active::ActiveRequest;
use crate::link::body::Upload;

/// A request and its response.
pub(super) struct Http {
    inbound: Inbound,
    reply: Reply,
    /// The body of the response is read from a file.
    reads_file: bool,
}

#[derive(Default)]
pub(super) struct Signals {
    /// The app has received a chunk.
    received: Notify,
    /// A chunk of the response has been sent.
    sent: Notify,
}

impl Http {
    /// What is known before the app is called.
    pub(super) fn of(active: &ActiveRequest) -> Self {
        Self {
            inbound: Inbound::of(&active.request),
            reply: Reply::to(&active.request.method),
            reads_file: false,
        }
    }
}

impl Protocol for Http {
    type Signals = Signals;

    const WHAT: &'static str = "a request";

    fn next(call: &Arc<Call<Self>>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let is_disconnected = is_disconnected(call);
        let (received, upload) = {
            let inbound = &mut call.lock().protocol.inbound;
            match inbound.receive() {
                Received::Later if !is_disconnected => (Received::Later, inbound.want()),
                received => (received, None),
            }
        };
        if let Some(upload) = upload {
            call.shared.event_loop.turn_soon(py)?;
            call.shared.event_loop.guest.spawn(Arc::clone(call).fetch(upload));
        }
        match received {
            Received::Chunk { body, more } => {
                if more {
                    call.shared.event_loop.turn_soon(py)?;
                    call.signals.received.notify_one();
                }
                message::request(py, &body, more).map(Some)
            }
            Received::Later | Received::Everything if !is_disconnected => Ok(None),
            // Nobody sends the rest after the end of the response.
            Received::Later | Received::Everything | Received::Broken => message::disconnect(py).map(Some),
        }
    }

    fn can_receive(call: &Call<Self>) -> bool {
        is_disconnected(call) || call.lock().protocol.inbound.is_ready()
    }

    fn send<'py>(call: &Arc<Call<Self>>, message: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = message.py();
        if call.active.is_gone() {
            return Err(PyBrokenPipeError::new_err("send a message: the client has disconnected"));
        }
        // What is sent wakes tasks of the guest, which then needn't wake the loop.
        call.shared.event_loop.turn_soon(py)?;
        let progress = match message::parse(message)? {
            Sent::Start { head, trailers } => {
                call.lock().protocol.reply.start(head, trailers)?;
                return Ok(None);
            }
            Sent::Body { body, more } => {
                begin(call)?;
                let (progress, names_file) = {
                    let reply = &mut call.lock().protocol.reply;
                    (reply.body(body, more)?, reply.names_file())
                };
                if progress.flush && names_file && call.active.session.reports_files() {
                    return call.wait_for_frontd(py);
                }
                progress
            }
            Sent::Trailers { headers, more } => {
                begin(call)?;
                call.lock().protocol.reply.trailers(headers, more)?
            }
            Sent::File(path) => {
                begin(call)?;
                let content_length = call.lock().protocol.reply.content_length();
                let file = match call.shared.is_sent_by_frontd(&path) {
                    true => message::file(&path, content_length)?,
                    false => None,
                };
                let Some(file) = file else { return call.send_file(py, path) };
                let progress = call.lock().protocol.reply.file(file)?;
                if call.active.session.reports_files() {
                    return call.wait_for_frontd(py);
                }
                progress
            }
            Sent::EarlyHints(headers) => {
                let hints = EarlyHints { id: call.active.id, headers };
                call.active.session.send(Message::EarlyHints(hints));
                return Ok(None);
            }
        };
        call.proceed(py, progress)
    }

    fn can_send(call: &Call<Self>) -> bool {
        let Self { reads_file, reply, .. } = &call.lock().protocol;
        !reads_file && (reply.has_room() || call.active.is_gone())
    }

    fn flush(call: &Arc<Call<Self>>) -> Flushed {
        let (flushed, upload) = {
            let mut inner = call.lock();
            let is_running = inner.stage == Stage::Running;
            let Self { reply, inbound, .. } = &mut inner.protocol;
            let flushed = reply.flush(call.active.id);
            // A body that arrives follows on the call of the response.
            let asks =
                matches!(flushed, Flushed::Stream(..)) && is_running && !call.active.request.streams_body;
            let upload = if asks { inbound.want() } else { None };
            if reply.is_complete() {
                // What the app does afterwards has no limit.
                call.active.deadline.leave();
            }
            (flushed, upload)
        };
        if let Some(mut upload) = upload {
            upload.ask(&call.active);
            call.shared.event_loop.guest.spawn(Arc::clone(call).fetch(upload));
        }
        flushed
    }

    fn made_room(call: &Call<Self>) {
        call.signals.sent.notify_one();
    }

    fn end(&mut self, _active: &ActiveRequest, has_failed: bool) -> Missing {
        self.inbound.forget();
        if !has_failed && self.reply.is_complete() {
            return Missing::Nothing;
        }
        if self.reply.fail() { Missing::Response } else { Missing::Rest }
    }

    fn is_harmless(_active: &ActiveRequest, _error: &PyErr, _py: Python<'_>) -> bool {
        false
    }

    fn incomplete(missing: Missing) -> &'static str {
        match missing {
            Missing::Rest => "the app returned before the end of its response's body",
            Missing::Response | Missing::Nothing => "the app returned without a complete response",
        }
    }

    fn is_sent(&self, _active: &ActiveRequest) -> bool {
        !self.reads_file && self.reply.is_complete()
    }
}

/// Whether the app receives a disconnect: its client has left, or has received everything.
fn is_disconnected(call: &Call<Http>) -> bool {
    call.active.is_gone() || call.lock().protocol.reply.is_complete()
}

/// The response begins, unless it has.
fn begin(call: &Call<Http>) -> PyResult<()> {
    if call.lock().protocol.reply.is_begun() { Ok(()) } else { call.answer() }
}

impl Call<Http> {
    /// Receives the rest of the request's body, no faster than the app.
    async fn fetch(self: Arc<Self>, mut upload: Box<Upload>) {
        loop {
            let arrived = upload.next(&self.active).await;
            if arrived.is_err() {
                // frontd reports it over another connection, so that may take longer.
                self.active.cancel();
            }
            let is_last = !matches!(arrived, Ok(Some(_))) || upload.is_complete();
            let has_room = {
                let inbound = &mut self.lock().protocol.inbound;
                inbound.arrive(arrived, upload.is_complete());
                inbound.has_room()
            };
            self.notify();
            if is_last {
                return;
            }
            // The next chunk may be small.
            while !has_room && !self.lock().protocol.inbound.has_room() {
                if self.active.unless_gone(self.signals.received.notified()).await.is_err() {
                    break;
                }
            }
        }
    }

    /// The response names a file. Waits until frontd has opened it, since the app may remove it afterwards.
    fn wait_for_frontd<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.lock().protocol.reads_file = true;
        let future = self.writer(py)?;
        self.settle_later(py)?;
        let call = Arc::clone(self);
        self.shared.event_loop.guest.spawn(async move {
            call.active.until_file_opened().await;
            call.lock().protocol.reads_file = false;
            call.notify();
        });
        Ok(Some(future))
    }
}

impl From<ReplyError> for PyErr {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Short(_) => PyValueError::new_err(error.to_string()),
            _ => PyRuntimeError::new_err(error.to_string()),
        }
    }
}
