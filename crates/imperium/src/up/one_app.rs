//! `imperium up app.py`: creates a temporary root for one app.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use config::{Diagnostics, Layout};
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use tempfile::TempDir;
use toml_edit::{Array, DocumentMut, Item, Table, value};
use tracing::warn;
use vassal::{MAX_WORKERS, StaticPrefix, Vassal};

use super::late_virtualenv::LateVirtualenv;
use super::python::Choice;
use super::target::{self, Named};
use crate::{home, new, number, running, trust, version};

/// The default address of the app.
pub(crate) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// Any free port: nobody needs to know it.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Options of the app on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OneApp {
    /// Run this one app, without a configuration file: `app.py`, `app.py:callable` or `module:callable`
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) app: Option<String>,
    /// The number of worker processes [default: 2]
    #[arg(long, value_name = "N", requires = "app", conflicts_with = "root", value_parser = number::from_1_to::<MAX_WORKERS>)]
    workers: Option<u16>,
    /// The number of requests that each worker handles at the same time [default: 1]
    #[arg(long, value_name = "N", requires = "app", conflicts_with = "root", value_parser = number::from_1_to::<256>)]
    threads: Option<u16>,
    /// Serve a folder without the app, such as `/static/=assets`; repeat the option for several
    #[arg(long = "static", value_name = "/PREFIX/=DIR", requires = "app", conflicts_with = "root", value_parser = parse_static)]
    static_folders: Vec<(String, PathBuf)>,
    /// Don't reload the app when its Python files, templates or `.env` change
    #[arg(long, requires = "app", conflicts_with = "root")]
    no_reload: bool,
    /// Read the app's environment variables from this file, such as `.env`; when it changes, new workers start
    #[arg(long, value_name = "FILE", requires = "app", conflicts_with = "root", value_parser = home::path(), value_hint = clap::ValueHint::FilePath)]
    env_file: Option<PathBuf>,
    /// The time that the app may take until it is ready, such as `90s` or `2m` [default: 60s]
    #[arg(long, value_name = "TIME", requires = "app", conflicts_with = "root", value_parser = parse_time)]
    start_timeout: Option<Duration>,
    /// Don't print a line for each request
    #[arg(long, requires = "app", conflicts_with = "root")]
    no_access_log: bool,
}

/// Why the app's file can't be written.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum AppError {
    #[error("run {app}: {why}")]
    Refused {
        app: String,
        why: String,
        #[help]
        hint: Option<String>,
    },
    #[error("use the active virtualenv {}: there is no bin/python in it", .0.display())]
    #[diagnostic(help("`deactivate` it, or unset VIRTUAL_ENV"))]
    NoVirtualenv(PathBuf),
}

/// A root that was created for one app.
#[derive(Debug)]
pub(crate) struct OneRoot {
    pub(crate) root: TempDir,
    /// The line that tells what is about to run.
    pub(crate) greeting: String,
    /// If no virtualenv was found.
    pub(crate) late_virtualenv: Option<LateVirtualenv>,
}

impl OneApp {
    /// Whether the app is reloaded when its files change.
    pub(super) fn reloads(&self) -> bool {
        !self.no_reload
    }

    /// Creates a root with the app's file.
    pub(crate) fn root(&self, app: &str) -> miette::Result<OneRoot> {
        let directory = env::current_dir().into_diagnostic().wrap_err("find the current folder")?;
        let Named { name, file: app_file } = target::find(app, &directory)?;
        let python = Choice::new(app_file.as_deref(), &directory);
        check_virtualenv(&python)?;
        let root = temporary_folder().into_diagnostic().wrap_err("create a temporary folder")?;
        let layout = Layout::under(root.path()).into_diagnostic()?;
        let file = layout.vassals().join(format!("{name}.toml"));
        let runs_as = RunsAs::of(geteuid().is_root());
        if runs_as == RunsAs::Root {
            warn!("{app} runs as root, like you: anyone who breaks into it controls this machine");
        }
        let sticky = if new::keeps_sessions(&directory) { Sticky::Cookie } else { Sticky::Off };
        let text = self.vassal_file(app, &directory, python.virtualenv.as_deref(), runs_as, sticky);
        Vassal::parse(&file, &text).map_err(|it| refused(app, &it))?;
        fs::create_dir(layout.vassals())
            .and_then(|()| fs::write(&file, text))
            .and_then(|()| fs::write(layout.frontd_toml(), self.frontd_file()))
            .into_diagnostic()
            .wrap_err_with(|| format!("write {}", file.display()))?;
        let greeting = format!("Imperium {} runs {app} with {python}\n", version::SHORT);
        let late = LateVirtualenv { app: app_file, folder: directory, vassal: file };
        let late_virtualenv = python.virtualenv.is_none().then_some(late);
        Ok(OneRoot { root, greeting, late_virtualenv })
    }

    fn frontd_file(&self) -> String {
        let mut file = DocumentMut::new();
        file["access_log"] = value(if self.no_access_log { "off" } else { "stderr" });
        file.to_string()
    }

    fn vassal_file(
        &self,
        app: &str,
        directory: &Path,
        python: Option<&Path>,
        runs_as: RunsAs,
        sticky: Sticky,
    ) -> String {
        let mut file = DocumentMut::new();
        file["domains"] = value(Array::from_iter(["*"]));
        file["app"] = value(app);
        file["directory"] = path(directory);
        if let Some(python) = python {
            file["python"] = path(python);
        }
        if runs_as == RunsAs::Root {
            file["user"] = value("root");
        }
        if sticky == Sticky::Cookie {
            file["sticky"] = value("cookie");
        }
        for (key, count) in [("workers", self.workers), ("threads", self.threads)] {
            if let Some(count) = count {
                file[key] = value(i64::from(count));
            }
        }
        if let Some(env_file) = &self.env_file {
            file["env_file"] = path(&directory.join(env_file));
        }
        if let Some(limit) = &self.start_timeout {
            file["timeouts"]["start"] = value(format!("{}ms", limit.as_millis()));
        }
        // Enables the worker's features for developers.
        file["env"]["IMPERIUM_DEVELOPMENT"] = value("1");
        if !self.static_folders.is_empty() {
            let folders = self.static_folders.iter().map(|(prefix, it)| (prefix, path(&directory.join(it))));
            file["static"] = Item::Table(folders.collect::<Table>());
        }
        if !self.no_reload {
            let watch = [("watch", value(true))];
            file["reload"] = Item::Table(watch.into_iter().collect::<Table>());
        }
        file.to_string()
    }
}

/// Whether requests of a client reach the same worker again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sticky {
    Off,
    /// As Socket.IO needs it.
    Cookie,
}

/// The user that the app runs as, which is always the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunsAs {
    /// A normal user doesn't have to be named.
    Starter,
    /// Root does.
    Root,
}

impl RunsAs {
    fn of(is_root: bool) -> Self {
        if is_root { Self::Root } else { Self::Starter }
    }
}

/// Fails if the virtualenv has no interpreter. Other mistakes are reported when the app's file is read.
fn check_virtualenv(python: &Choice) -> Result<(), AppError> {
    match &python.virtualenv {
        Some(folder) if folder.join("bin/python").symlink_metadata().is_err() => {
            Err(AppError::NoVirtualenv(folder.clone()))
        }
        _ => Ok(()),
    }
}

/// Describes problems without naming a file, since the operator hasn't written one.
fn refused(app: &str, diagnostics: &Diagnostics) -> AppError {
    let problems = diagnostics.problems();
    let why = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let hint = problems.iter().find_map(Diagnostic::help).map(|it| it.to_string());
    AppError::Refused { app: app.to_owned(), why, hint }
}

fn path(path: &Path) -> Item {
    value(path.to_string_lossy().as_ref())
}

fn temporary_folder() -> io::Result<TempDir> {
    let parent = absolute(running::runtime_directory().unwrap_or_else(env::temp_dir))?;
    tempfile::Builder::new()
        .prefix(running::TEMPORARY)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
}

/// Keeps the local CA in the user's own folder. A new one for each run would have to be trusted each time.
pub(super) fn keep_authority(layout: &Layout) -> io::Result<()> {
    let private = |folder: &Path| DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let kept = trust::kept().ok_or(io::ErrorKind::NotFound)?;
    private(&kept)?;
    access(&kept, Access::WRITE_OK)?;
    private(&layout.state)?;
    symlink(kept, layout.state.join("tls"))
}

fn parse_static(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((prefix, folder)) if !folder.is_empty() => {
            StaticPrefix::parse(prefix).map_err(|it| format!("`{prefix}` {it}"))?;
            match Path::new(folder).is_dir() {
                true => Ok((prefix.to_owned(), folder.into())),
                false => Err(home::unexpanded(folder.as_ref())
                    .unwrap_or_else(|| format!("there is no folder `{folder}`"))),
            }
        }
        _ => Err("write it as `/static/=FOLDER`".to_owned()),
    }
}

/// Parses a time like `timeouts.start` of an app's file.
fn parse_time(text: &str) -> Result<Duration, String> {
    let value = text.parse::<i64>().map_or_else(|_| text.into(), toml_edit::Value::from);
    config::value::duration(Duration::from_secs(1)..=Duration::from_hours(24))(&value)
        .map_err(|wrong| format!("it {wrong}"))
}

#[cfg(test)]
mod tests {
    use vassal::Python;

    use super::*;

    #[test]
    fn the_generated_file_is_a_valid_vassal_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        fs::write(folder.path().join("app.py"), "").unwrap();
        let options = OneApp {
            app: Some("app.py".to_owned()),
            workers: Some(3),
            threads: Some(4),
            static_folders: vec![("/static/".to_owned(), "assets".into())],
            no_access_log: false,
            env_file: None,
            start_timeout: Some(Duration::from_secs(90)),
            no_reload: false,
        };
        assert_eq!(options.frontd_file(), "access_log = \"stderr\"\n");
        let text = |runs_as| options.vassal_file("app.py", folder.path(), None, runs_as, Sticky::Cookie);
        let parse = |text: &str| Vassal::parse(Path::new("app.toml"), text).unwrap();
        // Root has to be named explicitly.
        let by_root = parse(&text(RunsAs::of(true)));
        assert_eq!(by_root.confinement.user.map(|it| it.to_string()).as_deref(), Some("root"));
        let vassal = parse(&text(RunsAs::of(false)));
        assert_eq!(vassal.confinement.user, None);
        assert_eq!(vassal.timeouts.start, Duration::from_secs(90));
        assert_eq!((vassal.workers, vassal.threads, vassal.python), (3, 4, Python::Default));
        assert_eq!(vassal.directory, folder.path());
        assert!(vassal.reload.watch);
        let fixed = OneApp { no_reload: true, ..options.clone() };
        let text = fixed.vassal_file("app.py", folder.path(), None, RunsAs::Starter, Sticky::Off);
        assert!(!parse(&text).reload.watch);
        let folders: Vec<_> =
            vassal.static_folders.into_iter().map(|(prefix, it)| (prefix.to_string(), it.path)).collect();
        assert_eq!(folders, [("/static/".to_owned(), folder.path().join("assets"))]);
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_time("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "soon", "-1", "0", "2d"] {
            assert!(parse_time(wrong).unwrap_err().starts_with("it must be "), "{wrong}");
        }
    }

    #[test]
    fn errors_in_static_folders_use_the_syntax_of_the_option() {
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display();
        assert_eq!(parse_static(&format!("/a/={shown}")), Ok(("/a/".to_owned(), folder.path().to_owned())));
        assert_eq!(parse_static("/a/=no/such"), Err("there is no folder `no/such`".to_owned()));
        let error = parse_static(&format!("/a={shown}")).unwrap_err();
        assert_eq!(error, "`/a` must begin and end with `/`: write \"/a/\"");
        for text in ["", "/a/", "/a/="] {
            assert_eq!(parse_static(text), Err("write it as `/static/=FOLDER`".to_owned()), "{text}");
        }
    }
}
