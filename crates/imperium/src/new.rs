//! `imperium new PATH`: writes a project's vassal file, explains it, and checks it.

mod ask;
mod candidates;
mod django;
mod draft;
mod find;
mod found;
mod ini;
mod installed;
mod interface;
mod names;
mod paste;
mod project;
mod python_path;
mod root;
mod source;
mod statics;
mod uwsgi;
mod virtualenv;

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::VassalName;
use config::{EmperordConfig, Layout, Problem, Wrong};
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use vassal::{App, Vassal, conflicts, name_of};

use self::draft::{Draft, Source};
use self::found::Found;
pub(crate) use self::ini::sections;
use self::names::What;
use self::project::{Module, Project};
use crate::at::root_from_env;
use crate::refused::Refused;
use crate::{home, shell};

/// Inspect a project (Django, Flask, FastAPI, any WSGI or ASGI app), and write its file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The project's folder, or the file that has the app, such as `app.py`, `site.wsgi` or `uwsgi.ini`
    #[arg(value_parser = home::path())]
    path: PathBuf,
    /// The app, if Imperium shouldn't search for it: `module:callable`, `file.py:callable` or `module:factory("prod")`
    #[arg(long, value_name = "APP", value_parser = parse_app)]
    app: Option<App>,
    /// The name of the app [default: the name of the folder]
    #[arg(long, value_name = "NAME", value_parser = VassalName::parse)]
    name: Option<VassalName>,
    /// A host of the app; repeat the option for several [default: Django's ALLOWED_HOSTS, or NAME.localhost]
    #[arg(long = "domain", value_name = "HOST", value_parser = parse_domain)]
    domains: Vec<String>,
    /// Only print what would be written
    #[arg(long)]
    dry_run: bool,
    /// The folder that was given to `imperium up --root` [default: $IMPERIUM_ROOT, or the installed system]
    #[arg(long, value_name = "DIR", value_parser = home::path())]
    root: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum NewError {
    #[error("inspect {}: {why}", .path.display())]
    NoApp { path: PathBuf, why: Wrong },
    #[error("write {}: the file already exists", .0.display())]
    #[diagnostic(help("choose another name with `--name`, or edit that file"))]
    Exists(PathBuf),
    #[error("write {}: {error}", .file.display())]
    #[diagnostic(help("{hint}"))]
    Denied { file: PathBuf, error: io::Error, hint: String },
}

/// Inspects the project, then writes its file and prints it. A file that emperord would refuse isn't written.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let root = args.root.clone().or_else(root_from_env);
    let layout = root.map_or_else(|| Ok(Layout::system()), |root| Layout::under(&root)).into_diagnostic()?;
    let path = fs::canonicalize(&args.path)
        .into_diagnostic()
        .wrap_err_with(|| format!("inspect {}", args.path.display()))?;
    let (project, source) = source(args, &path);
    let mut domains = args.domains.clone();
    let mut seen = BTreeSet::new();
    domains.retain(|it| seen.insert(it.clone()));
    let draft = Draft::new(&project, &source, args.name.clone(), &domains, ask::interface)
        .map_err(|why| NewError::NoApp { path, why })?;
    let name = draft.name();
    let (file, text) = (layout.vassals().join(format!("{name}.toml")), draft.to_string());
    check(&file, &text, &layout)?;
    let shown = if args.dry_run { "Would write" } else { "Wrote" };
    if !args.dry_run {
        write(&file, &text)?;
    }
    let mut notes = draft.notes();
    if draft.is_roots() && (layout == Layout::system() || rustix::process::geteuid().is_root()) {
        let directory = draft.directory().display();
        notes.push(format!(
            "{directory} belongs to root, and apps don't run as root by default: give the folder to another user, or set `user`"
        ));
    }
    let mut out = io::stdout().lock();
    print(&format!("{shown} {}", file.display()), &text, &notes, &mut out).into_diagnostic()?;
    if !args.dry_run {
        print_next(&layout, name, &mut out).into_diagnostic()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the project's folder, and what to inspect in it. A file's project is the nearest parent folder
/// that isn't a package.
fn source(args: &Args, path: &Path) -> (PathBuf, Source) {
    let is_file = path.is_file();
    let folder = if is_file { path.parent().unwrap_or(Path::new("/")) } else { path };
    let is_package = |it: &&Path| it.join("__init__.py").is_file();
    let packages = if is_file { folder.ancestors().take_while(is_package).count() } else { 0 };
    let project = folder.ancestors().nth(packages).unwrap_or(folder).to_owned();
    let source = match &args.app {
        Some(app) => Source::App(app.clone()),
        None if is_file => Source::File(path.to_owned()),
        None => Source::Folder,
    };
    (project, source)
}

/// An app that was found, to be run without a file.
#[derive(Debug)]
pub(crate) struct Suggested {
    directory: PathBuf,
    app: String,
    /// Django's settings, if the app doesn't choose them itself.
    settings: Option<String>,
}

impl Suggested {
    fn of(found: Found) -> Self {
        let settings = found.settings.filter(|it| it.chosen.is_some()).map(|it| it.name);
        Self { directory: found.directory, app: found.app, settings }
    }

    /// The command that runs it, for a shell in the folder `here`.
    pub(crate) fn command(&self, here: &Path) -> String {
        let settings =
            self.settings.as_ref().map(|it| format!("DJANGO_SETTINGS_MODULE={} ", shell::quoted(it)));
        let (go, settings) = (go(here, &self.directory), settings.unwrap_or_default());
        format!("{go}{settings}imperium up {}", shell::quoted(&self.app))
    }
}

/// The command that goes from the folder `here` to another one. Empty if it is the same.
pub(crate) fn go(here: &Path, to: &Path) -> String {
    match here.canonicalize().is_ok_and(|it| it == to) {
        true => String::new(),
        false => format!("cd {} && ", shell::quoted(&to.to_string_lossy())),
    }
}

/// The app of a folder. None if none is found.
pub(crate) fn app_of(folder: &Path) -> Option<Suggested> {
    find::find(&Project::look(folder), None).ok().map(Found::choose_usual).map(Suggested::of)
}

/// The app that a file has or names. None if none is found.
pub(crate) fn app_of_file(file: &Path) -> Option<Suggested> {
    let file = file.canonicalize().ok()?;
    find::in_file(&Project::look(file.parent()?), &file).ok().map(Suggested::of)
}

/// Whether an app of a folder needs requests of a client to reach the same worker again.
pub(crate) fn keeps_sessions(folder: &Path) -> bool {
    Project::look(folder).modules.iter().any(interface::keeps_sessions)
}

/// Why importing a file would never end: it starts its own server.
pub(crate) fn own_server(file: &Path) -> Option<Wrong> {
    candidates::own_server(&Module::read(file.to_owned(), file.parent()?)?)
}

/// The app of the Django project of a `manage.py`. None if the file isn't Django's, or has an app itself.
pub(crate) fn app_of_manage(file: &Path) -> Option<Suggested> {
    let file = file.canonicalize().ok()?;
    let project = Project::look(file.parent()?);
    let module = Module::read(file.clone(), &project.folder)?;
    let is_app = |it: &What| match it {
        What::Assigned { name, .. } | What::Imported { name, .. } | What::Function { name, .. } => {
            matches!(name.as_str(), "application" | "app")
        }
        _ => false,
    };
    if module.bindings().iter().any(|it| is_app(&it.what)) {
        return None;
    }
    let found = find::in_file(&project, &file).ok().filter(|it| it.settings.is_some())?;
    Some(Suggested::of(found.choose_usual()))
}

fn parse_domain(text: &str) -> Result<String, String> {
    vassal::Domain::parse(text).map(|_| text.to_owned()).map_err(|wrong| wrong.to_string())
}

fn parse_app(text: &str) -> Result<App, String> {
    App::parse(text).map_err(|wrong| wrong.to_string())
}

/// Prints the file, and what is left to do.
fn print(heading: &str, text: &str, notes: &[String], to: &mut impl io::Write) -> io::Result<()> {
    writeln!(to, "{heading}:\n")?;
    for line in text.lines() {
        writeln!(to, "{}", format!("    {line}").trim_end())?;
    }
    if !notes.is_empty() {
        writeln!(to, "\nStill to do:")?;
    }
    notes.iter().try_for_each(|note| writeln!(to, "- {note}"))
}

/// Prints the next commands. None of them is run here.
fn print_next(layout: &Layout, name: &VassalName, to: &mut impl io::Write) -> io::Result<()> {
    if *layout == Layout::system() {
        return writeln!(to, "\nNext:\n    imperium check\n    imperium status\n    imperium logs {name} -f");
    }
    let root = layout.etc.to_string_lossy();
    let root = shell::quoted(&root);
    writeln!(to, "\nNext:\n    imperium check --root {root}\n    imperium up --root {root}")
}

/// Checks the file as emperord would: on its own, and together with the existing apps.
fn check(file: &Path, text: &str, layout: &Layout) -> miette::Result<()> {
    let refused = |problems: Vec<Problem>| {
        Refused::new(format!("the file that would be written, {},", file.display()), problems)
    };
    let vassal = Vassal::parse(file, text).map_err(|it| refused(it.into_iter().collect()))?;
    let workerd = Path::new("workerd");
    let emperord =
        EmperordConfig::load(layout, workerd).unwrap_or_else(|_| EmperordConfig::new(layout, workerd));
    vassal.check_sockets(&emperord).map_err(|it| refused(it.into_iter().collect()))?;
    let entries = fs::read_dir(layout.vassals()).into_iter().flatten().flatten().map(|it| it.path());
    let others: Vec<_> =
        entries.filter(|it| name_of(it).is_some()).filter_map(|it| Vassal::load(&it).ok()).collect();
    let taken: Vec<_> =
        conflicts(others.iter().chain([&vassal])).into_iter().filter(|it| it.file == vassal.file).collect();
    let problems = taken.iter().map(|it| Problem::of_file(file, it.to_string())).collect::<Vec<_>>();
    if problems.is_empty() { Ok(()) } else { Err(refused(problems).into()) }
}

/// Explains who may write: only root to the system's folder, anybody to a root of their own.
fn denied(file: &Path, error: io::Error) -> NewError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied if file.starts_with(Layout::system().etc) => {
            "to add the app to this machine, use `sudo`; to write elsewhere, use `--root DIR`, which `imperium up --root \
             DIR` then runs; to only print the file, use `--dry-run`"
        }
        io::ErrorKind::PermissionDenied => "choose a folder that you can write to: --root DIR",
        _ => "choose another folder: --root DIR",
    };
    NewError::Denied { file: file.to_owned(), error, hint: hint.to_owned() }
}

/// Writes the file in one step, since emperord watches the folder.
fn write(file: &Path, text: &str) -> miette::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let failed = || format!("write {}", file.display());
    fs::create_dir_all(folder).map_err(|it| denied(file, it))?;
    let mut draft = tempfile::Builder::new();
    // The file's environment may later contain secrets.
    draft.prefix(".new-").permissions(Permissions::from_mode(0o640));
    let mut draft = draft.tempfile_in(folder).map_err(|it| denied(file, it))?;
    draft
        .write_all(text.as_bytes())
        .and_then(|()| draft.as_file().sync_all())
        .into_diagnostic()
        .wrap_err_with(failed)?;
    match draft.persist_noclobber(file) {
        Ok(File { .. }) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(NewError::Exists(file.to_owned()).into())
        }
        Err(error) => Err(error.error).into_diagnostic().wrap_err_with(failed),
    }
}

#[cfg(test)]
mod tests;
