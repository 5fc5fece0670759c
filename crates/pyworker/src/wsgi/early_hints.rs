//! `wsgi.early_hints`: what the client may load already, while the app still works on its response (RFC 8297).

use api::runner;
use api::runner::serve_response::Message;
use pyo3::prelude::*;

use super::head::HeadBuilder;
use super::start_response::pair;
use crate::inside;

/// One for all requests: whose hints they are, the calling thread tells.
#[pyclass(name = "EarlyHints", module = "imperium", frozen)]
pub(crate) struct EarlyHints;

#[pymethods]
impl EarlyHints {
    /// Sends `headers`, pairs of name and value, at once. May be called more than once before the response begins.
    /// Hints are never needed: a client that cannot be told is not, nor is the one of a thread that works on none.
    fn __call__(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut builder = HeadBuilder::interim();
        for header in headers.try_iter()? {
            let (name, value) = pair(&header?)?;
            builder.header(name.to_str()?, value.to_str()?)?;
        }
        let Some((exchange, driver)) = inside::this_request() else { return Ok(()) };
        let hints = runner::EarlyHints { id: exchange.id, headers: builder.build().headers };
        driver.wait(py, async {
            exchange.session.send(Message::EarlyHints(hints));
            // The app goes on working, which is what they are for.
            driver.flushed().await;
        });
        Ok(())
    }
}
