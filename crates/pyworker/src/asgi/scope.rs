//! Builds the scope of a request (ASGI, "HTTP Connection Scope").

use std::borrow::Cow;

use api::runner::{Connection, Request};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

/// A bytes object that is created once.
macro_rules! bytes {
    ($py:expr, $text:literal) => {{
        static BYTES: pyo3::sync::PyOnceLock<Py<PyBytes>> = pyo3::sync::PyOnceLock::new();
        BYTES.get_or_init($py, || PyBytes::new($py, $text).unbind()).bind($py)
    }};
}

/// What all scopes of this worker share.
pub(super) struct Scopes {
    common: Py<PyDict>,
    asgi: Py<PyDict>,
    extensions: Py<PyDict>,
    websocket_extensions: Py<PyDict>,
    /// The state that the app has set in its startup, if it supports that.
    state: Option<Py<PyDict>>,
}

impl Scopes {
    /// Prepares everything that doesn't depend on the request.
    pub(super) fn new(py: Python<'_>, state: Option<Bound<'_, PyDict>>, sends_files: bool) -> PyResult<Self> {
        let common = PyDict::new(py);
        common.set_item("type", "http")?;
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        asgi.set_item("spec_version", "2.5")?;
        let extensions = with_keys(py, &["http.response.trailers", "http.response.early_hint"])?;
        if sends_files {
            extensions.set_item("http.response.pathsend", PyDict::new(py))?;
        }
        Ok(Self {
            common: common.unbind(),
            asgi: asgi.unbind(),
            extensions: extensions.unbind(),
            websocket_extensions: with_keys(py, &["websocket.http.response"])?.unbind(),
            state: state.map(Bound::unbind),
        })
    }

    /// Builds the scope of `request`.
    pub(super) fn build<'py>(&self, py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.common.bind(py).copy()?;
        if request.websocket {
            scope.set_item(intern!(py, "type"), intern!(py, "websocket"))?;
        }
        scope.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        let version = match request.version {
            20 => intern!(py, "2"),
            10 => intern!(py, "1.0"),
            _ => intern!(py, "1.1"),
        };
        scope.set_item(intern!(py, "http_version"), version)?;
        if request.websocket {
            scope.set_item(intern!(py, "subprotocols"), subprotocols(py, request)?)?;
        } else {
            let method = match &*request.method {
                b"GET" => intern!(py, "GET").clone(),
                b"POST" => intern!(py, "POST").clone(),
                other => text(py, other),
            };
            scope.set_item(intern!(py, "method"), method)?;
        }
        set_target(&scope, request)?;
        let connection = request.connection.as_ref();
        let nobody = Connection::default();
        let Connection { remote_address, remote_port, tls } = connection.unwrap_or(&nobody);
        let scheme = match (request.websocket, *tls) {
            (false, true) => intern!(py, "https"),
            (false, false) => intern!(py, "http"),
            (true, true) => intern!(py, "wss"),
            (true, false) => intern!(py, "ws"),
        };
        scope.set_item(intern!(py, "scheme"), scheme)?;
        scope.set_item(intern!(py, "client"), (text(py, remote_address), *remote_port))?;
        scope.set_item(intern!(py, "server"), (text(py, &request.server_name), request.server_port))?;
        scope.set_item(intern!(py, "headers"), headers(py, request, remote_address, *tls)?)?;
        if let Some(state) = &self.state {
            scope.set_item(intern!(py, "state"), state.bind(py).copy()?)?;
        }
        let extensions = if request.websocket { &self.websocket_extensions } else { &self.extensions };
        scope.set_item(intern!(py, "extensions"), extensions.bind(py).copy()?)?;
        Ok(scope)
    }
}

/// The names of extensions, without options.
fn with_keys<'py>(py: Python<'py>, names: &[&str]) -> PyResult<Bound<'py, PyDict>> {
    let extensions = PyDict::new(py);
    for name in names {
        extensions.set_item(*name, PyDict::new(py))?;
    }
    Ok(extensions)
}

/// The client's subprotocols, in its order.
fn subprotocols<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for header in request.headers.iter().filter(|it| &*it.name == b"sec-websocket-protocol") {
        let names = header.value.split(|it| *it == b',').map(<[u8]>::trim_ascii);
        for name in names.filter(|it| !it.is_empty()) {
            list.append(text(py, name))?;
        }
    }
    Ok(list)
}

/// `path` includes the `root_path`, as the specification says.
fn set_target(scope: &Bound<'_, PyDict>, request: &Request) -> PyResult<()> {
    let py = scope.py();
    let (path, query) = match memchr::memchr(b'?', &request.target) {
        Some(at) => (&request.target[..at], &request.target[at + 1..]),
        None => (&request.target[..], &[][..]),
    };
    let decoded: Cow<'_, [u8]> = match memchr::memchr(b'%', path) {
        None => Cow::Borrowed(path),
        Some(_) => percent_encoding::percent_decode(path).into(),
    };
    scope.set_item(intern!(py, "path"), PyString::new(py, &String::from_utf8_lossy(&decoded)))?;
    scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, path))?;
    scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query))?;
    scope
        .set_item(intern!(py, "root_path"), PyString::new(py, &String::from_utf8_lossy(&request.script_name)))
}

/// The client's headers, and those that a proxy adds. frontd has dropped the client's own of these names.
fn headers<'py>(
    py: Python<'py>,
    request: &Request,
    remote_address: &[u8],
    tls: bool,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let mut host = None;
    for header in &request.headers {
        let value = PyBytes::new(py, &header.value);
        if &*header.name == b"host" {
            host = Some(value.clone());
            list.append((bytes!(py, b"host"), value))?;
        } else {
            list.append((PyBytes::new(py, &header.name), value))?;
        }
    }
    let scheme = if tls { bytes!(py, b"https") } else { bytes!(py, b"http") };
    list.append((bytes!(py, b"x-forwarded-for"), PyBytes::new(py, remote_address)))?;
    list.append((bytes!(py, b"x-forwarded-proto"), scheme))?;
    if let Some(host) = host {
        list.append((bytes!(py, b"x-forwarded-host"), host))?;
    }
    list.append((bytes!(py, b"x-request-id"), PyBytes::new(py, &request.request_id)))?;
    Ok(list)
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, &String::from_utf8_lossy(bytes))
}
