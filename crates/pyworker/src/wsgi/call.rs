//! Calls a WSGI app for one request (PEP 3333).

use std::sync::{Arc, Once};

use api::runner::serve_response::Message;
use api::runner::{Done, Response};
use api::worker::Spec;
use bytes::{Bytes, BytesMut};
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};

use super::environ::Environs;
use super::file_wrapper::{FileWrapper, Folder};
use super::input::Input;
use super::reply::{Method, Reply, ReplyError};
use super::start_response::StartResponse;
use crate::executor::Host;
use crate::executor::failure::{self, Failures};
use crate::link::active::ActiveRequest;
use crate::link::body::INLINE_LIMIT;
use crate::python::driver::Driver;

/// An app that is ready to be called.
pub(super) struct Wsgi {
    app: Py<PyAny>,
    environs: Environs,
    driver: Arc<Driver>,
    /// Folders whose files are sent by frontd.
    sendfile: Vec<Folder>,
    failures: Failures,
}

impl Wsgi {
    /// Prepares to call `app`, with `errors` as `wsgi.errors`.
    pub(super) fn new(
        app: Bound<'_, PyAny>,
        spec: &Spec,
        host: &Host,
        errors: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let environs = Environs::new(app.py(), spec.threads, &host.spec, errors)?;
        let sendfile = Folder::all(&spec.sendfile_folders);
        let driver = Arc::clone(&host.driver);
        Ok(Self { app: app.unbind(), environs, driver, sendfile, failures: Failures::of(spec) })
    }

    /// Serves one request. Returns its last message, which the caller sends.
    pub(super) fn serve(&self, py: Python<'_>, active: &Arc<ActiveRequest>) -> Message {
        let (response, iterable) = match self.prepare(py, active) {
            Ok(call) => self.respond(py, &call, active),
            Err(error) => {
                failure::log(py, &error, active);
                let response = failure::server_error(active.id);
                (Some(self.failures.explain(py, &error, response)), None)
            }
        };
        let Some(close) = iterable.and_then(|it| close_of(&it)) else {
            return last(active, response);
        };
        // The client doesn't have to wait for `close()`.
        if let Some(response) = response {
            self.send(py, active, response);
        }
        if let Err(error) = close.call0() {
            failure::log(py, &error, active);
        }
        last(active, None)
    }

    fn prepare<'py>(&self, py: Python<'py>, active: &Arc<ActiveRequest>) -> PyResult<CallArguments<'py>> {
        let input = Bound::new(py, Input::new(active, &self.driver))?;
        let environ = self.environs.build(py, &active.request, &input)?;
        let method = if &*active.request.method == b"HEAD" { Method::Head } else { Method::Other };
        let reply = Reply::new(method, Arc::clone(active));
        let start = Bound::new(py, StartResponse::new(reply, Arc::clone(&self.driver)))?;
        Ok(CallArguments { environ, input, start })
    }

    /// Calls the app. Returns what is left to send, and what the app returned, which has to be closed.
    fn respond<'py>(
        &self,
        py: Python<'py>,
        call: &CallArguments<'py>,
        active: &ActiveRequest,
    ) -> (Option<Response>, Option<Bound<'py, PyAny>>) {
        let reply = call.start.get();
        let (delivered, iterable) = match self.app.bind(py).call1((&call.environ, &call.start)) {
            Ok(iterable) => (self.deliver(py, &iterable, reply, active), Some(iterable)),
            Err(error) => (Err(error), None),
        };
        let response = delivered.unwrap_or_else(|error| {
            failure::log(py, &error, active);
            let response = reply.inside(py, Reply::fail);
            response.map(|it| self.failures.explain(py, &error, it))
        });
        reply.with(py, Reply::end);
        call.input.get().end();
        (response, iterable)
    }

    /// Sends what the app returned, chunk by chunk. A small body isn't sent, but returned with its head.
    fn deliver(
        &self,
        py: Python<'_>,
        iterable: &Bound<'_, PyAny>,
        reply: &StartResponse,
        active: &ActiveRequest,
    ) -> PyResult<Option<Response>> {
        if let Some(body) = small_body(iterable)?
            && let Some(whole) = reply.with(py, |it| it.is_unsent().then(|| it.whole(body)))
        {
            return Ok(Some(whole?));
        }
        if let Some(whole) = self.left_to_frontd(py, iterable, reply) {
            return Ok(Some(whole?));
        }
        if let Some(block) = one_block(iterable) {
            reply.send(py, Bytes::copy_from_slice(block.as_bytes()))?;
        } else {
            self.deliver_pieces(py, iterable, reply, active)?;
        }
        reply.inside(py, Reply::finish).map_err(|error| reply.error(py, error))
    }

    fn deliver_pieces(
        &self,
        py: Python<'_>,
        iterable: &Bound<'_, PyAny>,
        reply: &StartResponse,
        active: &ActiveRequest,
    ) -> PyResult<()> {
        for piece in iterable.try_iter()? {
            let piece = piece?;
            let piece = bytes_of(&piece)?.as_bytes();
            if piece.is_empty() {
                reply.with(py, |it| it.check_client()).map_err(|error| reply.error(py, error))?;
                continue;
            }
            let whole = |it: &mut Reply| it.is_whole(piece).then(|| it.whole(Bytes::copy_from_slice(piece)));
            if let Some(whole) = reply.with(py, whole) {
                self.send(py, active, whole?);
                continue;
            }
            reply.send(py, Bytes::copy_from_slice(piece))?;
            if !reply.with(py, |it| it.wants_body()) {
                break;
            }
        }
        Ok(())
    }

    /// Returns the response if its body is a wrapped file that frontd can send.
    fn left_to_frontd(
        &self,
        py: Python<'_>,
        iterable: &Bound<'_, PyAny>,
        reply: &StartResponse,
    ) -> Option<Result<Response, ReplyError>> {
        let wrapper = iterable.cast::<FileWrapper>().ok()?;
        if let Some(length) = reply.with(py, |it| it.wants_file())
            && let Some(file) = wrapper.get().left_to_frontd(py, &self.sendfile, length)
        {
            reply.with(py, |it| it.leave_to_frontd(file));
        }
        let is_whole = |it: &Reply| it.is_unsent() && !it.wants_body();
        reply.with(py, |it| is_whole(it).then(|| it.whole(Bytes::new())))
    }

    /// Sends a response before the app has finished. If it names a file, waits until the app may modify that
    /// again.
    fn send(&self, py: Python<'_>, active: &ActiveRequest, response: Response) {
        let names_file = response.file.is_some() && active.session.reports_files();
        self.driver.wait(py, async {
            active.session.send(Message::Response(response));
            if names_file {
                active.until_file_opened().await;
            }
        });
    }
}

/// The arguments of one call of the app.
struct CallArguments<'py> {
    environ: Bound<'py, PyDict>,
    input: Bound<'py, Input>,
    start: Bound<'py, StartResponse>,
}

/// The message that ends a request: its response, or `Done`.
fn last(active: &ActiveRequest, response: Option<Response>) -> Message {
    match response {
        Some(response) => Message::Response(Response { done: true, ..response }),
        None => Message::Done(Done { id: active.id }),
    }
}

/// Returns the body if it is bytes, or a small list or tuple: sending it requires no waiting.
fn small_body(iterable: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    let pieces: Vec<Bound<'_, PyAny>> = match (iterable.cast::<PyList>(), iterable.cast::<PyTuple>()) {
        (Ok(list), _) if is_iterated_as::<PyList>(iterable) => list.iter().collect(),
        (_, Ok(tuple)) if is_iterated_as::<PyTuple>(iterable) => tuple.iter().collect(),
        _ => {
            let small = one_block(iterable).filter(|it| it.as_bytes().len() <= INLINE_LIMIT);
            return Ok(small.map(|it| Bytes::copy_from_slice(it.as_bytes())));
        }
    };
    let mut size = 0;
    for piece in &pieces {
        size += bytes_of(piece)?.as_bytes().len();
    }
    if size > INLINE_LIMIT {
        return Ok(None);
    }
    let mut body = BytesMut::with_capacity(size);
    for piece in &pieces {
        body.extend_from_slice(bytes_of(piece)?.as_bytes());
    }
    Ok(Some(body.freeze()))
}

/// Returns the body if it is bytes, presumably instead of a list of bytes. Iterating over bytes would yield
/// numbers.
fn one_block<'a, 'py>(iterable: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyBytes>> {
    static TOLD: Once = Once::new();
    let block = iterable.cast::<PyBytes>().ok().filter(|_| is_iterated_as::<PyBytes>(iterable))?;
    TOLD.call_once(|| {
        tracing::warn!(
            "the app returned bytes as its body, which are sent as one block: return a list, [body]"
        );
    });
    Some(block)
}

/// Whether `value`, which may be of a subclass of `T`, is iterated like a plain `T`.
fn is_iterated_as<T: PyTypeInfo>(value: &Bound<'_, PyAny>) -> bool {
    let (own, plain) = (value.get_type(), value.py().get_type::<T>());
    own.is(&plain) || iter_of(&own).zip(iter_of(&plain)).is_some_and(|(own, plain)| own.is(&plain))
}

fn iter_of<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyAny>> {
    class.getattr(intern!(class.py(), "__iter__")).ok()
}

fn bytes_of<'a, 'py>(piece: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    piece.cast::<PyBytes>().map_err(|_| {
        let kind = piece.get_type().name().map_or_else(|_| "something else".to_owned(), |it| it.to_string());
        PyTypeError::new_err(format!("a part of the response body is {kind}, not bytes"))
    })
}

fn close_of<'py>(iterable: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if iterable.is_exact_instance_of::<PyList>() || iterable.is_exact_instance_of::<PyTuple>() {
        return None;
    }
    iterable.getattr_opt(intern!(iterable.py(), "close")).ok().flatten()
}
