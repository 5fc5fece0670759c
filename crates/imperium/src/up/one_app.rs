//! `imperium up app.py`: creates a temporary root for one app.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use api::VassalName;
use config::{Diagnostics, Layout, Wrong};
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use tempfile::TempDir;
use toml_edit::{Array, DocumentMut, Item, Table, value};
use tracing::warn;
use vassal::{App, MAX_WORKERS, StaticPrefix, Target, Vassal};

use super::python::Choice;
use crate::{new, running, shell, trust, version};

/// The default address of the app.
pub(crate) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// Any free port: nobody needs to know it.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Files that usually have the app, the likeliest first.
const USUAL_FILES: [&str; 5] = ["app.py", "wsgi.py", "main.py", "application.py", "manage.py"];
/// How many files of a folder are looked at, and named.
const MOST_FILES: usize = 1000;
const SHOWN_FILES: usize = 5;

/// Options of the app on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OneApp {
    /// Run this one app, without a configuration file: `app.py`, `app.py:callable` or `module:callable`
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) app: Option<String>,
    /// The number of worker processes [default: 2]
    #[arg(long, value_name = "N", requires = "app", conflicts_with = "root", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WORKERS)))]
    workers: Option<u16>,
    /// The number of requests that each worker handles at the same time [default: 1]
    #[arg(long, value_name = "N", requires = "app", conflicts_with = "root", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Serve a folder without the app, such as `/static/=assets`; repeat the option for several
    #[arg(long = "static", value_name = "/PREFIX/=DIR", requires = "app", conflicts_with = "root", value_parser = parse_static)]
    static_folders: Vec<(String, PathBuf)>,
    /// Don't reload the app when its Python files, templates or `.env` change
    #[arg(long, requires = "app", conflicts_with = "root")]
    no_reload: bool,
    /// Read the app's environment variables from this file, such as `.env`; when it changes, new workers start
    #[arg(long, value_name = "FILE", requires = "app", conflicts_with = "root", value_hint = clap::ValueHint::FilePath)]
    env_file: Option<PathBuf>,
    /// The time that the app may take until it is ready, such as `90s` or `2m` [default: 60s]
    #[arg(long, value_name = "TIME", requires = "app", conflicts_with = "root", value_parser = parse_time)]
    start_timeout: Option<Duration>,
    /// Don't print a line for each request
    #[arg(long, requires = "app", conflicts_with = "root")]
    no_access_log: bool,
}

/// An argument that names no app.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum AppError {
    #[error("run `{0}`: it is neither a Python file nor a module")]
    #[diagnostic(help(
        "write `imperium up app.py`, `imperium up app.py:callable` or `imperium up module:callable`"
    ))]
    Target(String),
    #[error("run `{app}`: it {why}")]
    Call { app: String, why: Wrong },
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
    #[error("run {}: there is no such file", .0.display())]
    #[diagnostic(help(
        "go to the folder of the app, or pass the path of the file relative to the current folder"
    ))]
    NoFile(PathBuf),
    #[error("run `{app}`: it is a folder: name the app's file")]
    Folder {
        app: String,
        #[help]
        hint: String,
    },
}

impl OneApp {
    /// Whether the app is reloaded when its files change.
    pub(super) fn reloads(&self) -> bool {
        !self.no_reload
    }

    /// Creates a root with the app's file. Returns it with the line that tells what is about to run.
    pub(crate) fn root(&self, app: &str) -> miette::Result<(TempDir, String)> {
        let directory = env::current_dir().into_diagnostic().wrap_err("find the current folder")?;
        let (name, file) = name_of(app, &directory)?;
        let python = Choice::new(file.as_deref(), &directory);
        check_virtualenv(&python)?;
        let root = temporary_folder().into_diagnostic().wrap_err("create a temporary folder")?;
        let layout = Layout::under(root.path()).into_diagnostic()?;
        let file = layout.vassals().join(format!("{name}.toml"));
        let runs_as = RunsAs::of(geteuid().is_root());
        if runs_as == RunsAs::Root {
            warn!("{app} runs as root, like you: anyone who breaks into it controls this machine");
        }
        let text = self.vassal_file(app, &directory, python.virtualenv.as_deref(), runs_as);
        Vassal::parse(&file, &text).map_err(|it| refused(app, &it))?;
        fs::create_dir(layout.vassals())
            .and_then(|()| fs::write(&file, text))
            .and_then(|()| fs::write(layout.frontd_toml(), self.frontd_file()))
            .into_diagnostic()
            .wrap_err_with(|| format!("write {}", file.display()))?;
        Ok((root, format!("Imperium {} runs {app} with {python}\n", version::SHORT)))
    }

    fn frontd_file(&self) -> String {
        let mut file = DocumentMut::new();
        file["access_log"] = value(if self.no_access_log { "off" } else { "stderr" });
        file.to_string()
    }

    fn vassal_file(&self, app: &str, directory: &Path, python: Option<&Path>, runs_as: RunsAs) -> String {
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

/// Derives the app's name from its file or module. Also returns the file, if it is one.
fn name_of(app: &str, directory: &Path) -> Result<(VassalName, Option<PathBuf>), AppError> {
    if let Some(folder) = folder_of(app, directory) {
        return Err(AppError::Folder { app: app.to_owned(), hint: what_to_run(&folder, directory) });
    }
    let refused = || AppError::Target(app.to_owned());
    let wrong = |why: Wrong| match app.contains('(') {
        true => AppError::Call { app: app.to_owned(), why },
        false => refused(),
    };
    let (stem, file) = match App::parse(app).map_err(wrong)?.target {
        Target::Module(module) => (module, None),
        Target::File(file) | Target::Paste(file) if !directory.join(&file).is_file() => {
            return Err(AppError::NoFile(directory.join(file)));
        }
        Target::File(file) | Target::Paste(file) => {
            let stem = Path::new(&file).with_extension("").file_name().map(lossy).ok_or_else(refused)?;
            (stem, Some(directory.join(file)))
        }
    };
    Ok((crate::app_name::app_name(&stem).ok_or_else(refused)?, file))
}

/// The folder that `app` names, unless a module has that name: a package, or a file beside the folder.
fn folder_of(app: &str, directory: &Path) -> Option<PathBuf> {
    let folder = directory.join(app).canonicalize().ok().filter(|it| !app.is_empty() && it.is_dir())?;
    let is_module = !app.contains(['/', '.'])
        && (folder.join("__init__.py").is_file() || directory.join(format!("{app}.py")).is_file());
    (!is_module).then_some(folder)
}

/// How to run the app of a folder, and the Python files that are in it.
fn what_to_run(folder: &Path, here: &Path) -> String {
    let go = |to: &Path| match here.canonicalize().is_ok_and(|it| it == to) {
        true => String::new(),
        false => format!("cd {} && ", shell::quoted(&to.to_string_lossy())),
    };
    let run = match new::app_of(folder) {
        Some((directory, app)) => {
            format!("run `{}imperium up {}`", go(&directory), shell::quoted(&app))
        }
        None => format!("write for example `{}imperium up app.py`", go(folder)),
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_FILES);
    let files = entries.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "py"));
    let mut files: Vec<_> = files.filter_map(|it| Some(lossy(it.file_name()?))).collect();
    // Those that usually have an app come first.
    files
        .sort_by_key(|it| (USUAL_FILES.iter().position(|name| name == it).unwrap_or(usize::MAX), it.clone()));
    files.truncate(SHOWN_FILES);
    match files.is_empty() {
        true => format!("{run}; there is no Python file in the folder"),
        false => format!("{run}; its Python files are {}", files.join(", ")),
    }
}

fn lossy(name: &std::ffi::OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn path(path: &Path) -> Item {
    value(path.to_string_lossy().as_ref())
}

fn temporary_folder() -> io::Result<TempDir> {
    let parent = absolute(running::runtime_directory().unwrap_or_else(env::temp_dir))?;
    tempfile::Builder::new().prefix("imperium-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent)
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
                false => Err(format!("there is no folder `{folder}`")),
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
    fn names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        for file in ["app.py", "src/My App.py", "_wsgi.py", "ä.py"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let check = |app: &str, expected: &str| {
            let name = name_of(app, folder.path()).map(|it| it.0.to_string());
            assert_eq!(
                name.unwrap_or_else(|error| error.to_string().replace(&lossy(folder.path().as_os_str()), "")),
                expected
            );
        };
        check("app.py", "app");
        check("app.py:create", "app");
        check("src/My App.py:app", "my-app");
        check("_wsgi.py", "wsgi");
        check("ä.py", "app");
        check("blog.wsgi:application", "blog-wsgi");
        check("blog_2:app", "blog_2");
        check("blog", "blog");
        check("shop:create_app(\"prod\", debug=False)", "shop");
        check(
            "shop:create_app(config)",
            "run `shop:create_app(config)`: it must call `create_app` with literals only, but a literal is missing (a \
             string, a number, True, False, None, a list, a tuple or a dictionary) at `config`: write for example \
             \"create_app('prod', debug=False)\", or pass what it needs in [env]",
        );
        check("none.py", "run /none.py: there is no such file");
        check("src", "run `src`: it is a folder: name the app's file");
        check(".", "run `.`: it is a folder: name the app's file");
        check("no/such", "run `no/such`: it is neither a Python file nor a module");
        check("", "run ``: it is neither a Python file nor a module");
    }

    #[test]
    fn a_folder_is_refused_with_the_command_that_runs_its_app() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        fs::create_dir_all(here.join("site/blog")).unwrap();
        assert_eq!(
            what_to_run(&here.join("site/blog"), &here),
            format!(
                "write for example `cd {}/site/blog && imperium up app.py`; there is no Python file in the folder",
                here.display()
            )
        );
        fs::write(here.join("site/app.py"), "from flask import Flask\n\napp = Flask(__name__)\n").unwrap();
        fs::write(here.join("site/admin.py"), "").unwrap();
        let files = "its Python files are app.py, admin.py";
        assert_eq!(
            what_to_run(&here.join("site"), &here),
            format!("run `cd {}/site && imperium up app:app`; {files}", here.display())
        );
        assert_eq!(
            what_to_run(&here.join("site"), &here.join("site")),
            format!("run `imperium up app:app`; {files}")
        );
        fs::write(here.join("site/app.py"), "").unwrap();
        fs::write(
            here.join("site/manage.py"),
            "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'blog.settings')",
        )
        .unwrap();
        fs::write(here.join("site/blog/wsgi.py"), "").unwrap();
        let actual = what_to_run(&here.join("site"), &here.join("site"));
        assert_eq!(
            actual,
            "run `imperium up blog.wsgi:application`; its Python files are app.py, manage.py, admin.py"
        );
        // A package is a module.
        assert!(folder_of("site", &here).is_some());
        fs::write(here.join("site/__init__.py"), "").unwrap();
        assert_eq!(folder_of("site", &here), None);
        assert!(folder_of("site/", &here).is_some());
    }

    #[test]
    fn suggested_commands_are_quoted_for_the_shell() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let site = here.join("my site");
        fs::create_dir(&site).unwrap();
        fs::write(
            site.join("web.py"),
            "from flask import Flask\n\ndef create_app():\n    app = Flask(__name__)\n    return app\n",
        )
        .unwrap();
        let expected = format!(
            "run `cd '{}/my site' && imperium up 'web:create_app()'`; its Python files are web.py",
            here.display()
        );
        assert_eq!(what_to_run(&site, &here), expected);
    }

    #[test]
    fn a_module_beside_a_folder_of_its_name_is_not_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("app")).unwrap();
        assert!(folder_of("app", folder.path()).is_some());
        fs::write(folder.path().join("app.py"), "").unwrap();
        assert_eq!(folder_of("app", folder.path()), None);
        assert!(folder_of("app/", folder.path()).is_some());
        assert!(folder_of("./app", folder.path()).is_some());
    }

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
        let text = |runs_as| options.vassal_file("app.py", folder.path(), None, runs_as);
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
        let text = fixed.vassal_file("app.py", folder.path(), None, RunsAs::Starter);
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
