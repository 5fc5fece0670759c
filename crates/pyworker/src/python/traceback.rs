//! Formats Python exceptions.

use pyo3::prelude::*;

/// The traceback as Python prints it, without a trailing newline.
pub(crate) fn of(py: Python<'_>, error: &PyErr) -> String {
    format(py, error).unwrap_or_else(|_| error.to_string())
}

/// The last line: type and message of the exception.
pub(crate) fn last_line(py: Python<'_>, error: &PyErr) -> String {
    last_line_in(&of(py, error)).to_owned()
}

/// The last line of a formatted traceback.
pub(crate) fn last_line_in(traceback: &str) -> &str {
    let line = traceback.lines().rev().find(|line| !line.starts_with(' ') && !line.is_empty());
    line.unwrap_or("unknown error")
}

/// Whether an app has put a formatted traceback into a text.
pub(crate) fn is_formatted(text: &str) -> bool {
    text.starts_with("Traceback (most recent call last):\n")
}

fn format(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // Pass all three: before Python 3.12, the value alone may lack its traceback.
    let error = (error.get_type(py), error.value(py), error.traceback(py));
    let parts = py.import("traceback")?.call_method1("format_exception", error)?;
    let parts: Vec<String> = parts.try_iter()?.map(|it| it?.extract()).collect::<PyResult<_>>()?;
    let mut text = without_own_frames(&parts);
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Leaves out the frames of this crate's own Python code, and those of `importlib`, as Python itself does for an `import`
/// statement: this crate imports apps by a call. A heading that is left without frames goes, too.
fn without_own_frames(parts: &[String]) -> String {
    let mut text = String::new();
    let mut heading = None;
    for part in parts {
        match part.trim_start_matches([' ', '|', '+']) {
            it if it.starts_with("Traceback (most recent call last)") => heading = Some(part),
            it if it.starts_with("File \"<frozen importlib.") || it.starts_with("File \"<imperium>\"") => {}
            it => {
                let is_frame = it.starts_with("File \"") || it.starts_with('[');
                text.extend(heading.take().filter(|_| is_frame).map(String::as_str));
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[&str], expected: &str) {
        let parts: Vec<_> = parts.iter().map(|&it| it.to_owned()).collect();
        assert_eq!(without_own_frames(&parts), expected);
    }

    #[test]
    fn the_frames_of_the_app_are_kept() {
        let heading = "Traceback (most recent call last):\n";
        let import = "  File \"<frozen importlib._bootstrap_external>\", line 940, in exec_module\n";
        let app = "  File \"/srv/app.py\", line 1, in <module>\n    import flask\n";
        let error = "ModuleNotFoundError: No module named 'flask'\n";
        check(&[heading, import, app, error], &[heading, app, error].concat());
        check(&[heading, app, import, app, error], &[heading, app, app, error].concat());
        // The module that the app's file names is missing itself.
        check(&[heading, import, error], error);
        // An app of ASGI is called by Python code.
        let run = "  File \"<imperium>\", line 76, in run\n";
        check(&[heading, run, app, error], &[heading, app, error].concat());
        let because = "\nThe above exception was the direct cause of the following exception:\n\n";
        check(
            &[heading, import, error, because, heading, app, error],
            &[error, because, heading, app, error].concat(),
        );
    }
}
