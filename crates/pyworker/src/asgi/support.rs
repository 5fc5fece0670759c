//! The part of this module that is written in Python (`asgi.py`).

use pyo3::prelude::*;
use pyo3::types::PyModule;

const SOURCE: &str = include_str!("asgi.py");

/// What the event loop runs, apart from the app.
pub(super) struct Support(Py<PyModule>);

impl Support {
    /// Compiles it.
    ///
    /// # Errors
    /// If asyncio can't be imported.
    pub(super) fn load(py: Python<'_>) -> PyResult<Self> {
        let module = PyModule::new(py, "_imperium_asgi")?;
        let builtins = py.import("builtins")?;
        let code = builtins.call_method1("compile", (SOURCE, "<imperium>", "exec"))?;
        builtins.call_method1("exec", (code, module.dict()))?;
        Ok(Self(module.unbind()))
    }

    /// One of its functions and classes.
    pub(super) fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.0.bind(py).getattr(name)
    }
}
