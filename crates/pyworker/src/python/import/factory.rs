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

/// The name of a function that takes the arguments of neither a WSGI nor an ASGI app. It probably returns the app, and
/// the `()` after its name was forgotten.
pub(super) fn not_called(app: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let inspect = app.py().import("inspect")?;
    if !inspect.call_method1("isfunction", (app,))?.is_truthy()? {
        return Ok(None);
    }
    let given = PyDict::new(app.py());
    // A decorator may pass other arguments on than it takes.
    given.set_item("follow_wrapped", false)?;
    // It may not have one, or annotations that can't be evaluated.
    let Ok(signature) = inspect.call_method("signature", (app,), Some(&given)) else { return Ok(None) };
    let takes = |arguments: &[&str]| {
        PyTuple::new(app.py(), arguments).is_ok_and(|it| signature.call_method1("bind", it).is_ok())
    };
    let is_of_asgi_2 = || {
        let names = signature.getattr("parameters")?.try_iter()?.map(|it| it?.extract::<String>());
        Ok::<_, PyErr>(names.collect::<PyResult<Vec<_>>>()? == ["scope"])
    };
    if takes(&["environ", "start_response"]) || takes(&["scope", "receive", "send"]) || is_of_asgi_2()? {
        return Ok(None);
    }
    app.getattr("__name__")?.extract().map(Some)
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
