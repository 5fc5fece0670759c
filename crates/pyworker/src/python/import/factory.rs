//! Calls the function that returns the app.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// Calls `factory`, whose name is `name`, with the arguments in `call`: `create_app("prod", debug=False)`.
///
/// The arguments are parsed as literals. No code in the text is run.
pub(super) fn call<'py>(factory: &Bound<'py, PyAny>, name: &str, call: &str) -> PyResult<Bound<'py, PyAny>> {
    let (arguments, keywords) = arguments(factory.py(), call)?;
    let app = factory.call(arguments, Some(&keywords))?;
    if app.is_callable() {
        return Ok(app);
    }
    let kind = app.get_type().name()?;
    Err(PyTypeError::new_err(format!("{name}() returned {kind}, which isn't callable")))
}

fn arguments<'py>(py: Python<'py>, call: &str) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
    let ast = py.import("ast")?;
    let literal = |node: Bound<'py, PyAny>| ast.call_method1("literal_eval", (node,));
    let parsed = ast.call_method1("parse", (call, "<app>", "eval"))?.getattr("body")?;
    let positional = parsed.getattr("args")?.cast_into::<PyList>()?;
    let positional = positional.iter().map(literal).collect::<PyResult<Vec<_>>>()?;
    let keywords = PyDict::new(py);
    for keyword in parsed.getattr("keywords")?.cast_into::<PyList>()? {
        let name = keyword.getattr("arg")?;
        if name.is_none() {
            return Err(PyValueError::new_err(format!("`{call}` has an argument that isn't a literal")));
        }
        keywords.set_item(name, literal(keyword.getattr("value")?)?)?;
    }
    Ok((PyTuple::new(py, positional)?, keywords))
}
