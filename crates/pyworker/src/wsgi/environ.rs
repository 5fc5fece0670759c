//! Builds the environ of a request (PEP 3333, "environ Variables").

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::runner::{Connection, Request};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::cgi::{self, Target};
use super::early_hints::EarlyHints;
use super::file_wrapper::FileWrapper;
use super::input::Input;
use crate::executor::live_spec::LiveSpec;

/// Common headers, whose variables are created once.
const WELL_KNOWN: [&str; 42] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "baggage",
    "cache-control",
    "cf-connecting-ip",
    "cookie",
    "date",
    "dnt",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "save-data",
    "traceparent",
    "tracestate",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-csrf-token",
    "x-csrftoken",
    "x-requested-with",
];

/// What all environs of this worker share, and the names of common variables.
pub(crate) struct Environs {
    common: Py<PyDict>,
    spec: Arc<LiveSpec>,
    /// The value of `wsgi.multiprocess` in `common`.
    multiprocess: AtomicBool,
    variables: HashMap<&'static [u8], Py<PyString>>,
}

impl Environs {
    /// Prepares everything that doesn't depend on the request. `threads` of this process call the app, `spec` has
    /// the number of processes, and `errors` is `wsgi.errors`.
    pub(crate) fn new(
        py: Python<'_>,
        threads: u32,
        spec: &Arc<LiveSpec>,
        errors: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let common = PyDict::new(py);
        common.set_item("GATEWAY_INTERFACE", "CGI/1.1")?;
        common.set_item("SERVER_SOFTWARE", concat!("imperium/", env!("CARGO_PKG_VERSION")))?;
        common.set_item("wsgi.version", (1, 0))?;
        common.set_item("wsgi.errors", errors)?;
        common.set_item("wsgi.multithread", threads > 1)?;
        let spec = Arc::clone(spec);
        let multiprocess = spec.workers() > 1;
        common.set_item("wsgi.multiprocess", multiprocess)?;
        common.set_item("wsgi.run_once", false)?;
        common.set_item("wsgi.input_terminated", true)?;
        common.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        common.set_item("wsgi.early_hints", Bound::new(py, EarlyHints)?)?;
        let variable =
            |name: &'static str| (name.as_bytes(), PyString::intern(py, &cgi::variable(name)).unbind());
        let multiprocess = AtomicBool::new(multiprocess);
        Ok(Self { common: common.unbind(), spec, multiprocess, variables: WELL_KNOWN.map(variable).into() })
    }

    fn follow_workers(&self, py: Python<'_>) -> PyResult<()> {
        let multiprocess = self.spec.workers() > 1;
        if multiprocess != self.multiprocess.load(Ordering::Relaxed) {
            self.multiprocess.store(multiprocess, Ordering::Relaxed);
            self.common.bind(py).set_item("wsgi.multiprocess", multiprocess)?;
        }
        Ok(())
    }

    /// Builds the environ of `request`.
    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        input: &Bound<'py, Input>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.follow_workers(py)?;
        let environ = self.common.bind(py).copy()?;
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        set_request(&environ, request)?;
        set_connection(&environ, request.connection.as_ref().unwrap_or(&Connection::default()))?;
        self.set_headers(&environ, request)?;
        set_forwarded_host(&environ)?;
        Ok(environ)
    }

    fn set_headers(&self, environ: &Bound<'_, PyDict>, request: &Request) -> PyResult<()> {
        let py = environ.py();
        for header in &request.headers {
            let value = latin1(py, &header.value);
            match &*header.name {
                b"content-type" => environ.set_item(intern!(py, "CONTENT_TYPE"), value)?,
                b"content-length" => environ.set_item(intern!(py, "CONTENT_LENGTH"), length(py, request))?,
                name => match self.variables.get(name) {
                    Some(variable) => set_or_join(environ, variable.bind(py), name, value)?,
                    None => {
                        let variable = PyString::new(py, &cgi::variable(&cgi::latin1(name)));
                        set_or_join(environ, &variable, name, value)?;
                    }
                },
            }
        }
        if request.body_length > 0 || !request.body.is_empty() {
            environ.set_item(intern!(py, "CONTENT_LENGTH"), length(py, request))?;
        }
        Ok(())
    }
}

fn set_request(environ: &Bound<'_, PyDict>, request: &Request) -> PyResult<()> {
    let py = environ.py();
    let Target { script_name, path_info, query } = Target::split(&request.target, &request.script_name);
    let method = match &*request.method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        other => latin1(py, other),
    };
    environ.set_item(intern!(py, "REQUEST_METHOD"), method)?;
    environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, script_name))?;
    environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &path_info))?;
    environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, query))?;
    environ.set_item(intern!(py, "REQUEST_URI"), latin1(py, &request.target))?;
    let protocol = match cgi::protocol(request.version) {
        "HTTP/2.0" => intern!(py, "HTTP/2.0"),
        "HTTP/1.0" => intern!(py, "HTTP/1.0"),
        _ => intern!(py, "HTTP/1.1"),
    };
    environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, &request.server_name))?;
    environ.set_item(intern!(py, "SERVER_PORT"), decimal(py, request.server_port.into()))?;
    let id = latin1(py, &request.request_id);
    environ.set_item(intern!(py, "imperium.request_id"), &id)?;
    environ.set_item(intern!(py, "HTTP_X_REQUEST_ID"), id)
}

fn set_connection(environ: &Bound<'_, PyDict>, connection: &Connection) -> PyResult<()> {
    let py = environ.py();
    let address = latin1(py, &connection.remote_address);
    environ.set_item(intern!(py, "REMOTE_ADDR"), &address)?;
    environ.set_item(intern!(py, "HTTP_X_FORWARDED_FOR"), address)?;
    environ.set_item(intern!(py, "REMOTE_PORT"), decimal(py, connection.remote_port.into()))?;
    if connection.tls {
        environ.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
    }
    let scheme = if connection.tls { intern!(py, "https") } else { intern!(py, "http") };
    environ.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
    environ.set_item(intern!(py, "HTTP_X_FORWARDED_PROTO"), scheme)
}

/// frontd drops the client's `X-Forwarded-*` headers: it is the first proxy and knows the host itself.
fn set_forwarded_host(environ: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = environ.py();
    match environ.get_item(intern!(py, "HTTP_HOST"))? {
        Some(host) => environ.set_item(intern!(py, "HTTP_X_FORWARDED_HOST"), host),
        None => Ok(()),
    }
}

fn set_or_join(
    environ: &Bound<'_, PyDict>,
    variable: &Bound<'_, PyString>,
    name: &[u8],
    value: Bound<'_, PyString>,
) -> PyResult<()> {
    match environ.get_item(variable)? {
        None => environ.set_item(variable, value),
        Some(before) => environ.set_item(variable, before.add(cgi::separator(name))?.add(value)?),
    }
}

/// The actual length of the body, which takes precedence over the header.
fn length<'py>(py: Python<'py>, request: &Request) -> Bound<'py, PyString> {
    decimal(py, request.body_length.max(request.body.len() as u64))
}

fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, &cgi::latin1(bytes))
}

fn decimal(py: Python<'_>, number: u64) -> Bound<'_, PyString> {
    match number {
        443 => intern!(py, "443").clone(),
        80 => intern!(py, "80").clone(),
        _ => PyString::new(py, &number.to_string()),
    }
}
