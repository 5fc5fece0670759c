//! Replaces this process with the app's Python, which loads the extension and continues as the worker.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api::worker::Spec;
use daemon::logging::copy;

use crate::arguments::{Arguments, Role};
use crate::interpreter::{self, NoInterpreter};

/// Checks the interpreter, and loads the extension by its path, so that nothing is added to the app's
/// `sys.path`. It is passed as text: the folder of a script file would come first in `sys.path`.
const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// Why this process didn't become Python.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error(transparent)]
    Interpreter(#[from] NoInterpreter),
    /// `env_file` can't be used.
    #[error("set the app's environment variables")]
    EnvFile(#[from] dotenv::ReadError),
    /// The extension isn't where it belongs.
    #[error("find the extension {}: install it next to workerd", .0.display())]
    Extension(PathBuf),
    /// This program's own path is unknown.
    #[error("find the path of workerd itself")]
    Itself(#[source] io::Error),
    /// The kernel refused to run the interpreter.
    #[error("run interpreter {} in {}", interpreter.display(), directory.display())]
    Exec {
        /// The interpreter.
        interpreter: PathBuf,
        /// The working directory.
        directory: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// Becomes the Python of `spec`. Returns only on error.
pub(crate) fn exec(spec: &Spec, role: Role<'_>, arguments: &Arguments) -> Result<Infallible, ExecError> {
    let directory = Path::new(&spec.directory);
    let env = environment(spec)?;
    let path = env.get("PATH").map(OsString::from).or_else(|| env::var_os("PATH"));
    let interpreter = interpreter::find(&spec.python, directory, path.as_deref())?;
    let itself = env::current_exe().map_err(ExecError::Itself)?;
    let extension = match &arguments.extension {
        Some(file) => file.clone(),
        None => extension_beside(&itself)?,
    };
    let mut command = Command::new(&interpreter);
    command.arg("-c").arg(BOOTSTRAP).arg(extension).arg(itself);
    command.arg(&arguments.emperord).arg(&arguments.log_format);
    command.arg(if spec.development { "development" } else { "production" });
    match role {
        Role::Worker(worker) => {
            command.arg(worker.to_string()).arg(spec.generation.to_string()).stdin(Stdio::null());
        }
        Role::Template(app) => {
            command.arg(app.to_string());
        }
    }
    command.current_dir(directory);
    set_environment(&mut command, env);
    // Log lines that haven't been written would be lost with this program.
    daemon::logging::flush();
    let source = command.exec();
    Err(ExecError::Exec { interpreter, directory: directory.to_owned(), source })
}

/// The environment variables of the app's file. `env_file` is read here instead of by emperord, which might
/// be able to read files that the app's user can't.
fn environment(spec: &Spec) -> Result<BTreeMap<String, String>, ExecError> {
    let mut env = match &*spec.env_file {
        "" => BTreeMap::new(),
        path => dotenv::read(Path::new(path))?,
    };
    env.extend(spec.env.clone());
    Ok(env)
}

/// In this program's folder: cargo's target folder, or the installed `lib/imperium`.
fn extension_beside(program: &Path) -> Result<PathBuf, ExecError> {
    let extension = program.with_file_name("libpyworker.so");
    if extension.is_file() { Ok(extension) } else { Err(ExecError::Extension(extension)) }
}

/// Sets the app's environment: that of workerd, without variables for the daemons, and with those of the
/// app's file.
fn set_environment(command: &mut Command, env: BTreeMap<String, String>) {
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_the_daemons(name)) {
        command.env_remove(name);
    }
    command.envs(env);
    // Renamed, so that the extension can find and remove it before the app is imported.
    if let Some(manager) = env::var_os("NOTIFY_SOCKET") {
        command.env("IMPERIUM_NOTIFY_SOCKET", manager);
    }
}

fn is_of_the_daemons(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    // The extension reads and removes these before the app is imported.
    let wanted = [b"IMPERIUM_LOG".as_slice(), copy::VARIABLE.as_bytes()].contains(&name);
    let of_systemd = [b"LISTEN_".as_slice(), b"WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix));
    !wanted && (name == b"NOTIFY_SOCKET" || of_systemd || name.starts_with(b"IMPERIUM_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_variables_are_hidden_from_the_app() {
        for (name, theirs) in [
            ("NOTIFY_SOCKET", true),
            ("LISTEN_FDS", true),
            ("WATCHDOG_USEC", true),
            ("IMPERIUM_ROOT", true),
            ("IMPERIUM_LOG", false),
            ("IMPERIUM_LOG_COPY", false),
            ("IMPERIUM_LOG_OTHER", true),
            ("PATH", false),
            ("MY_LISTEN_PORT", false),
        ] {
            assert_eq!(is_of_the_daemons(OsStr::new(name)), theirs, "{name}");
        }
    }
}
