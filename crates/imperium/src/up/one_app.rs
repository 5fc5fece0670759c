//! `imperium up app.py`: a root that is made for one app, and goes when it ends.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf, absolute};

use api::VassalName;
use config::{Layout, Wrong};
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use tempfile::TempDir;
use toml_edit::{Array, DocumentMut, Item, Table, value};
use tracing::warn;
use vassal::{App, Target};

/// Where one app is served, if nothing else is asked for.
pub(crate) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// Any port that is free: nobody looks.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What is said of the app on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OneApp {
    /// Run this one app, without any file: `app.py`, `app.py:callable` or `module:callable`
    pub(crate) app: Option<String>,
    /// How many processes the app has
    #[arg(long, value_name = "N", requires = "app")]
    workers: Option<u16>,
    /// How many requests each of them works on at once
    #[arg(long, value_name = "N", requires = "app")]
    threads: Option<u16>,
    /// Serve a folder without asking the app, such as `/static/=assets`; may be given several times
    #[arg(long = "static", value_name = "/PREFIX/=DIR", requires = "app", value_parser = parse_static)]
    static_folders: Vec<(String, PathBuf)>,
    /// Don't reload the app when its Python files, templates or `.env` change
    #[arg(long, requires = "app")]
    no_reload: bool,
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
    #[error("run {}: there is no such file", .0.display())]
    #[diagnostic(help("go to the folder of the app, or write the path of the file from here"))]
    NoFile(PathBuf),
}

impl OneApp {
    /// Makes a root with the file of `app` in it.
    pub(crate) fn root(&self, app: &str) -> miette::Result<TempDir> {
        let directory = env::current_dir().into_diagnostic().wrap_err("find the current folder")?;
        let name = name_of(app, &directory)?;
        let root = temporary_folder().into_diagnostic().wrap_err("make a folder for the time of this run")?;
        let layout = Layout::under(root.path()).into_diagnostic()?;
        let file = layout.vassals().join(format!("{name}.toml"));
        let runs_as = RunsAs::of(geteuid().is_root());
        if runs_as == RunsAs::Root {
            warn!("{app} runs as root, as you do: who breaks into it has the machine");
        }
        let text = self.vassal_file(app, &directory, python(&directory).as_deref(), runs_as);
        fs::create_dir(layout.vassals())
            .and_then(|()| fs::write(&file, text))
            .into_diagnostic()
            .wrap_err_with(|| format!("write {}", file.display()))?;
        if let Err(error) = keep_authority(&layout) {
            warn!(%error, "the CA is not kept: browsers have to be told of a new one after each start");
        }
        Ok(root)
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

/// As whom the app runs: whoever has started this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunsAs {
    /// Who need not be named.
    Starter,
    /// Who has to be.
    Root,
}

impl RunsAs {
    fn of(is_root: bool) -> Self {
        if is_root { Self::Root } else { Self::Starter }
    }
}

/// The name of an app: that of its file or module, as far as a name may have its characters.
fn name_of(app: &str, directory: &Path) -> Result<VassalName, AppError> {
    let refused = || AppError::Target(app.to_owned());
    let wrong = |why: Wrong| match app.contains('(') {
        true => AppError::Call { app: app.to_owned(), why },
        false => refused(),
    };
    let stem = match App::parse(app).map_err(wrong)?.target {
        Target::Module(module) => module,
        Target::File(file) | Target::Paste(file) if !directory.join(&file).is_file() => {
            return Err(AppError::NoFile(directory.join(file)));
        }
        Target::File(file) | Target::Paste(file) => {
            Path::new(&file).with_extension("").file_name().map(lossy).ok_or_else(refused)?
        }
    };
    crate::app_name::app_name(&stem).ok_or_else(refused)
}

fn lossy(name: &std::ffi::OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn path(path: &Path) -> Item {
    value(path.to_string_lossy().as_ref())
}

/// The virtualenv that is active, or the one that lies in the folder.
fn python(directory: &Path) -> Option<PathBuf> {
    let active = env::var_os("VIRTUAL_ENV").filter(|it| !it.is_empty()).map(PathBuf::from);
    active.or_else(|| Some(directory.join(".venv")).filter(|it| it.join("bin/python").exists()))
}

fn temporary_folder() -> io::Result<TempDir> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|it| it.is_dir());
    let parent = absolute(runtime.unwrap_or_else(env::temp_dir))?;
    tempfile::Builder::new().prefix("imperium-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent)
}

/// Puts the local CA into the user's own folder, as one that is made for each run would have to be
/// trusted again each time.
fn keep_authority(layout: &Layout) -> io::Result<()> {
    let private = |folder: &Path| DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|it| it.is_absolute());
    let data = data.or_else(|| Some(env::home_dir()?.join(".local/share")));
    let kept = data.ok_or(io::ErrorKind::NotFound)?.join("imperium/tls");
    private(&kept)?;
    access(&kept, Access::WRITE_OK)?;
    private(&layout.state)?;
    symlink(kept, layout.state.join("tls"))
}

fn parse_static(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((prefix, folder)) if prefix.starts_with('/') && !folder.is_empty() => {
            Ok((prefix.to_owned(), folder.into()))
        }
        _ => Err("write it as `/static/=FOLDER`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use vassal::{Python, Vassal};

    use super::*;

    #[test]
    fn names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        for file in ["app.py", "src/My App.py", "_wsgi.py", "ä.py"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let check = |app: &str, expected: &str| {
            let name = name_of(app, folder.path()).map(|it| it.to_string());
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
            "run `shop:create_app(config)`: it must call `create_app` with literals only, and a literal is missing (a \
             string, a number, True, False, None, a list, a tuple or a dictionary) at `config`: write for example \
             \"create_app('prod', debug=False)\", or pass what it needs in [env]",
        );
        check("none.py", "run /none.py: there is no such file");
        check("no/such", "run `no/such`: it is neither a Python file nor a module");
        check("", "run ``: it is neither a Python file nor a module");
    }

    #[test]
    fn the_file_that_is_written_is_a_vassals() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        fs::write(folder.path().join("app.py"), "").unwrap();
        let said = OneApp {
            app: Some("app.py".to_owned()),
            workers: Some(3),
            threads: Some(4),
            static_folders: vec![parse_static("/static/=assets").unwrap()],
            no_reload: false,
        };
        let text = |runs_as| said.vassal_file("app.py", folder.path(), None, runs_as);
        let parse = |text: &str| Vassal::parse(Path::new("app.toml"), text).unwrap();
        // Only what is said counts as root's.
        let by_root = parse(&text(RunsAs::of(true)));
        assert_eq!(by_root.confinement.user.map(|it| it.to_string()).as_deref(), Some("root"));
        let vassal = parse(&text(RunsAs::of(false)));
        assert_eq!(vassal.confinement.user, None);
        assert_eq!((vassal.workers, vassal.threads, vassal.python), (3, 4, Python::Default));
        assert_eq!(vassal.directory, folder.path());
        assert!(vassal.reload.watch);
        let fixed = OneApp { no_reload: true, ..said.clone() };
        let text = fixed.vassal_file("app.py", folder.path(), None, RunsAs::Starter);
        assert!(!parse(&text).reload.watch);
        let folders: Vec<_> =
            vassal.static_folders.into_iter().map(|(prefix, it)| (prefix.to_string(), it.path)).collect();
        assert_eq!(folders, [("/static/".to_owned(), folder.path().join("assets"))]);
    }
}
