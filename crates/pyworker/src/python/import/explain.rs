//! Explains in one line why an app can't be imported, and what to do about it.

use std::fs;
use std::path::{Path, PathBuf};

use api::worker::Spec;
use pyo3::exceptions::{PyImportError, PyModuleNotFoundError, PySyntaxError};
use pyo3::prelude::*;

use crate::python::traceback;

/// Packages whose name differs from that of their module.
const PACKAGES: [(&str, &str); 22] = [
    ("Crypto", "pycryptodome"),
    ("MySQLdb", "mysqlclient"),
    ("OpenSSL", "pyOpenSSL"),
    ("PIL", "pillow"),
    ("allauth", "django-allauth"),
    ("bs4", "beautifulsoup4"),
    ("corsheaders", "django-cors-headers"),
    ("crispy_forms", "django-crispy-forms"),
    ("cv2", "opencv-python-headless"),
    ("dateutil", "python-dateutil"),
    ("debug_toolbar", "django-debug-toolbar"),
    ("decouple", "python-decouple"),
    ("dotenv", "python-dotenv"),
    ("environ", "django-environ"),
    ("flask_sqlalchemy", "Flask-SQLAlchemy"),
    ("jwt", "PyJWT"),
    ("magic", "python-magic"),
    ("psycopg2", "psycopg2-binary"),
    ("rest_framework", "djangorestframework"),
    ("sklearn", "scikit-learn"),
    ("storages", "django-storages"),
    ("yaml", "PyYAML"),
];

/// Describes an exception of the app in one line. If a module is missing, it names the interpreter and how to
/// install the package.
pub(crate) fn of(py: Python<'_>, error: &PyErr, spec: &Spec) -> String {
    let line = match missing_module(py, error) {
        Some(module) => missing(py, &module, spec).ok(),
        None if let Some(hidden) = hidden_package(py, error, spec) => Some(hidden),
        // Includes file and line, which the last line of a traceback doesn't.
        None if error.is_instance_of::<PySyntaxError>(py) => {
            error.get_type(py).name().ok().map(|name| format!("{name}: {}", error.value(py)))
        }
        None => None,
    };
    line.unwrap_or_else(|| traceback::last_line(py, error)).replace(['\n', '\r'], " ")
}

/// The name of the module that wasn't found.
fn missing_module(py: Python<'_>, error: &PyErr) -> Option<String> {
    if !error.is_instance_of::<PyModuleNotFoundError>(py) {
        return None;
    }
    let name: String = error.value(py).getattr("name").ok()?.extract().ok()?;
    Some(name).filter(|it| is_name(it))
}

/// Explains that a name can't be imported from a package because a file of the app has the package's name. A file
/// `flask.py` that imports Flask imports itself.
fn hidden_package(py: Python<'_>, error: &PyErr, spec: &Spec) -> Option<String> {
    if !error.is_instance_of::<PyImportError>(py) {
        return None;
    }
    let value = error.value(py);
    let name: String = value.getattr("name").ok()?.extract().ok()?;
    let path: PathBuf = value.getattr("path").ok()?.extract().ok()?;
    if !path.starts_with(&spec.directory) || !is_installed(py, &name, Path::new(&spec.directory)).ok()? {
        return None;
    }
    let line = traceback::last_line(py, error);
    Some(format!("{line}: the app's own file {} hides the package `{name}`: rename the file", path.display()))
}

/// Whether a module is found outside of the app's directory.
fn is_installed(py: Python<'_>, name: &str, directory: &Path) -> PyResult<bool> {
    // Strings: the finder ignores entries of other types.
    let path: Vec<String> = py.import("sys")?.getattr("path")?.extract()?;
    let others: Vec<_> = path.into_iter().filter(|it| Path::new(it) != directory && !it.is_empty()).collect();
    let finder = py.import("importlib.machinery")?.getattr("PathFinder")?;
    finder.call_method1("find_spec", (name, others)).map(|it| !it.is_none())
}

/// Whether the name can be used in a command line without quoting.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.".contains(&it))
}

fn missing(py: Python<'_>, module: &str, spec: &Spec) -> PyResult<String> {
    let sys = py.import("sys")?;
    let (python, prefix): (String, String) =
        (sys.getattr("executable")?.extract()?, sys.getattr("prefix")?.extract()?);
    let version = py.version_info();
    let what =
        format!("No module named '{module}' in {python} (CPython {}.{})", version.major, version.minor);
    let top = module.split('.').next().unwrap_or(module);
    // If this is the app's own module, or part of a package that exists, installing a package won't help.
    let is_apps = app_module(&spec.app) == Some(top) || is_found(py, top);
    Ok(match is_apps {
        true => format!("{what}, nor in {}", spec.directory),
        false => {
            let venv = match is_externally_managed(py, &prefix)? {
                true => Some(Path::new(&spec.directory).join(".venv")),
                false => None,
            };
            let advice = match venv {
                Some(venv) => in_virtualenv(&python, &venv, package(top), spec.development),
                None => format!("install it with `{}`", command(&python, Path::new(&prefix), package(top))),
            };
            format!("{what}: {advice}")
        }
    })
}

fn is_found(py: Python<'_>, top: &str) -> bool {
    let found = py.import("importlib.util").and_then(|it| it.call_method1("find_spec", (top,)));
    found.is_ok_and(|it| !it.is_none())
}

/// The top-level package of `module:callable`. None for a file.
fn app_module(app: &str) -> Option<&str> {
    let module = app.split(':').next()?;
    if module.contains('/') || module.ends_with(".py") { None } else { module.split('.').next() }
}

fn package(module: &str) -> &str {
    PACKAGES.iter().find(|(name, _)| *name == module).map_or(module, |(_, package)| package)
}

/// Whether pip refuses to install anything for this interpreter, since the system's packages belong to another package
/// manager (PEP 668).
fn is_externally_managed(py: Python<'_>, prefix: &str) -> PyResult<bool> {
    let base: String = py.import("sys")?.getattr("base_prefix")?.extract()?;
    let library: String = py.import("sysconfig")?.call_method1("get_path", ("stdlib",))?.extract()?;
    Ok(base == prefix && Path::new(&library).join("EXTERNALLY-MANAGED").is_file())
}

/// How to install a package in a new virtualenv, and to use that.
fn in_virtualenv(python: &str, venv: &Path, package: &str, development: bool) -> String {
    let is_plain = |it: &str| it.bytes().all(|it| it.is_ascii_alphanumeric() || b"/._-".contains(&it));
    // Otherwise it would have to be quoted.
    let venv = venv.to_str().filter(|it| is_plain(it)).unwrap_or(".venv");
    let then = match development {
        true => "start `imperium up` again".to_owned(),
        false => format!("set `python = \"{venv}\"` in its file"),
    };
    format!(
        "this Python is managed by the system: make a virtualenv with `{python} -m venv {venv} && {venv}/bin/pip install \
         {package}`, and {then}"
    )
}

/// The command that installs a package where `python` finds it. `prefix` is its virtualenv, if any.
fn command(python: &str, prefix: &Path, package: &str) -> String {
    let config = fs::read_to_string(prefix.join("pyvenv.cfg")).unwrap_or_default();
    let has_key =
        |key: &str| config.lines().any(|it| it.split('=').next().is_some_and(|it| it.trim() == key));
    match has_key("uv") {
        true => format!("uv pip install --python {python} {package}"),
        false => format!("{python} -m pip install {package}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_known_and_safe_in_a_command() {
        assert_eq!((package("yaml"), package("flask")), ("PyYAML", "flask"));
        for (name, safe) in
            [("flask", true), ("a.b_c2", true), ("", false), ("x; rm -rf /", false), ("é", false)]
        {
            assert_eq!(is_name(name), safe, "{name}");
        }
        for (app, module) in [("blog.wsgi:app", Some("blog")), ("app", Some("app")), ("app.py:app", None)] {
            assert_eq!(app_module(app), module, "{app}");
        }
    }

    #[test]
    fn a_virtualenv_is_suggested_where_pip_may_not_install() {
        let told = |venv: &str, development| {
            in_virtualenv("/usr/bin/python3", Path::new(venv), "flask", development)
        };
        assert_eq!(
            told("/srv/blog/.venv", true),
            "this Python is managed by the system: make a virtualenv with `/usr/bin/python3 -m venv /srv/blog/.venv && \
             /srv/blog/.venv/bin/pip install flask`, and start `imperium up` again"
        );
        assert!(
            told("/srv/blog/.venv", false).ends_with("and set `python = \"/srv/blog/.venv\"` in its file")
        );
        assert!(told("/srv/my blog/.venv", true).contains("-m venv .venv && .venv/bin/pip install flask`"));
    }

    #[test]
    fn uv_is_suggested_for_its_own_virtualenvs() {
        let folder = tempfile::tempdir().unwrap();
        for (config, expected) in [
            (Some("home = /usr/bin\nuv = 0.9.5\n"), "uv pip install --python /v/bin/python flask"),
            (Some("home = /opt/uv\nversion = 3.12\n"), "/v/bin/python -m pip install flask"),
            (None, "/v/bin/python -m pip install flask"),
        ] {
            let file = folder.path().join("pyvenv.cfg");
            match config {
                Some(text) => fs::write(&file, text).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            assert_eq!(command("/v/bin/python", folder.path(), "flask"), expected);
        }
    }
}
