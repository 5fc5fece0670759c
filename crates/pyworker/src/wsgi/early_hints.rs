//! `wsgi.early_hints`: tells the client what to load while the app still prepares its response (RFC 8297).

use api::runner;
use api::runner::serve_response::Message;
use pyo3::prelude::*;

use super::start_response::pair;
use crate::executor::head::HeadBuilder;
use crate::python::imperium;

/// One object for all requests: the calling thread determines the request.
#[pyclass(name = "EarlyHints", module = "imperium", frozen)]
pub(crate) struct EarlyHints;

#[pymethods]
impl EarlyHints {
    /// Sends `headers`, pairs of name and value, at once. May be called several times before the response
    /// starts. Hints are optional: they are dropped if the client can't receive them, or if the thread isn't
    /// running a request.
    fn __call__(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut builder = HeadBuilder::interim();
        for header in headers.try_iter()? {
            let (name, value) = pair(&header?)?;
            builder.header(name.to_str()?, value.to_str()?)?;
        }
        let Some((active, driver)) = imperium::this_request(py) else { return Ok(()) };
        let hints = runner::EarlyHints { id: active.id, headers: builder.build().headers };
        driver.wait(py, async {
            active.session.send(Message::EarlyHints(hints));
            // Send them now, since the app continues to work.
            driver.flushed().await;
        });
        Ok(())
    }
}
