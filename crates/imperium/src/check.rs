//! `imperium check`: reads files as the daemons would, and reports all problems.

mod certificates;
mod emperord;
mod interpreter;
mod user;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use api::admin::App;
use config::{Diagnostics, EmperordConfig, FrontdConfig, Layout, Problem, Source, Wrong};
use miette::{IntoDiagnostic as _, MietteHandlerOpts, ReportHandler};
use vassal::{ChosenBy, Vassal, conflicts, name_of};

use self::emperord::Digests;
use self::interpreter::Finding;
use crate::at::root_from_env;
use crate::home;
use crate::running::{self, NothingRuns, Running};

/// Check the apps' files and those of the daemons, and report mistakes
///
/// Each app's interpreter is run to determine its version, without running any code of the app. If you are root, it
/// runs as the `user` in the app's file; if the file has no `user`, it isn't run.
///
/// For certificates, the command only checks that frontd can read them, and not with `--only`. frontd uses all valid
/// ones, and logs what is wrong with the others at each start and reload.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files or folders [default: all files of the installation]
    #[arg(value_parser = home::path())]
    paths: Vec<PathBuf>,
    /// Check only the file of this daemon
    #[arg(long, value_name = "DAEMON", value_parser = ["frontd", "emperord"], conflicts_with = "paths")]
    only: Option<String>,
    /// The folder that was given to `imperium up --root` [default: for files, the root that they are in; $IMPERIUM_ROOT;
    /// without files and `--only`, what `imperium up` runs in this folder; the installed system]
    #[arg(long, value_name = "DIR", value_parser = home::path())]
    root: Option<PathBuf>,
}

impl Args {
    /// The folder of the files, if it isn't the system's; and what runs there, if that was found by its entry.
    fn root(&self) -> miette::Result<(Option<PathBuf>, Option<Running>)> {
        if let Some(root) = self.root.clone().or_else(root_from_env) {
            return Ok((Some(root), None));
        }
        // Neither files that are named nor systemd's check of a daemon's file depend on what this user runs.
        let running = if self.names_files() { None } else { running::choose()? };
        Ok((running.as_ref().map(|it| it.root.clone()), running))
    }

    fn names_files(&self) -> bool {
        !self.paths.is_empty() || self.only.is_some()
    }
}

/// Checks the files and prints the problems. The exit code is 1 if there are any.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let (root, running) = args.root()?;
    if root.is_none() && !args.names_files() && !Layout::system().etc.exists() {
        return Err(NothingRuns.into());
    }
    let layout = root.map_or_else(|| Ok(Layout::system()), |root| Layout::under(&root)).into_diagnostic()?;
    let checked = match args.only.as_deref() {
        Some("frontd") => Checked::daemon(&layout.frontd_toml(), Reader::Frontd, &layout),
        Some(_) => Checked::daemon(&layout.emperord_toml(), Reader::Emperord, &layout),
        None => Checked::new(&args.paths, &layout),
    };
    if let Some(running) = running {
        writeln!(io::stdout(), "checking {}, which `imperium up` runs", running.root.display())
            .into_diagnostic()?;
    }
    let handler = MietteHandlerOpts::new().wrap_lines(false).build();
    checked.print(&handler, &mut io::stderr().lock(), &mut io::stdout().lock()).into_diagnostic()?;
    Ok(if checked.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A placeholder for the default of `workerd`, which isn't checked here.
const WORKERD: &str = "workerd";

/// The results of a check.
#[derive(Debug, Default)]
struct Checked {
    files: usize,
    /// Files among the others that no daemon reads.
    skipped: Vec<PathBuf>,
    vassals: Vec<Vassal>,
    /// The names of the apps whose interpreters weren't run, by reason.
    not_asked: BTreeMap<String, Vec<String>>,
    /// The files of the apps above with the digests of their texts, by the installation that they belong to.
    installations: Vec<(Layout, Digests)>,
    /// The names of the apps whose current files emperord hasn't read yet.
    unread: Vec<String>,
    /// The names of the apps with limits of which nobody can tell whether they can be set, by reason.
    unknown_limits: BTreeMap<String, Vec<String>>,
    /// The names of the apps whose user emperord would determine, if it ran.
    unknown_users: Vec<String>,
    problems: Vec<Problem>,
    certificates: Certificates,
}

/// Whether to check certificates. A daemon that checks its file before it starts skips them: it uses those
/// that are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Certificates {
    #[default]
    Read,
    Left,
}

impl Checked {
    fn new(paths: &[PathBuf], layout: &Layout) -> Self {
        let mut checked = Self::default();
        for path in paths {
            let its = installation_of(path);
            let layout = its.as_ref().unwrap_or(layout);
            match absolute(path) {
                Ok(path) if its.is_some() && path == layout.etc => checked.installation(layout),
                _ if path.is_dir() => checked.folder(path, Reader::of, layout),
                _ => checked.file(path, Reader::of(path), layout),
            }
        }
        if paths.is_empty() {
            checked.installation(layout);
        }
        checked.ask_emperord();
        for conflict in conflicts(&checked.vassals) {
            checked.problems.extend(conflict.diagnostics());
        }
        checked
    }

    /// Adds what only emperord knows, if it runs: which apps have their hosts already, and what it refuses.
    fn ask_emperord(&mut self) {
        let installations = mem::take(&mut self.installations).into_iter();
        let ask = |layout: &Layout, files: &Digests| {
            emperord::settled(files, &emperord_config(layout).vassals, || emperord::apps(layout))
        };
        let asked: Vec<_> = installations.map(|it| (ask(&it.0, &it.1), it)).collect();
        if !conflicts(&self.vassals).is_empty() {
            let running: Vec<_> = asked.iter().flat_map(|it| it.0.iter().flatten()).collect();
            self.put_holders_first(&running);
        }
        for (answer, (layout, files)) in &asked {
            let is_good = |it: &&Vassal| !self.problems.iter().any(|problem| problem.path() == it.file);
            let vassals = self.vassals.iter().filter(|it| files.contains_key(&it.file));
            let vassals: Vec<_> = vassals.filter(is_good).collect();
            for vassal in vassals.iter().filter(|it| emperord::has_unknown_limits(it, layout)) {
                let reason = match answer {
                    Ok(apps) if emperord::entry(vassal, apps).is_some() => continue,
                    Ok(_) => "emperord hasn't read the file",
                    Err(reason) => reason.as_str(),
                };
                self.unknown_limits.entry(reason.to_owned()).or_default().push(vassal.name.to_string());
            }
            if answer.is_err() {
                let unknown = vassals.iter().filter(|it| emperord::determines_user(it, layout));
                self.unknown_users.extend(unknown.map(|it| it.name.to_string()));
            }
            if let Ok(apps) = answer {
                let folder = &emperord_config(layout).vassals;
                let unread = vassals.iter().filter(|it| emperord::is_unread(&it.file, files, folder, apps));
                self.unread.extend(unread.map(|it| it.name.to_string()));
                let refused: Vec<_> = vassals.iter().filter_map(|it| emperord::refusal(it, apps)).collect();
                self.problems.extend(refused);
            }
        }
    }

    /// Puts the apps first that are already running with a host, as emperord does: the others are then
    /// reported as duplicates.
    fn put_holders_first(&mut self, running: &[&App]) {
        let new_hosts = |vassal: &Vassal| {
            let same = running.iter().find(|it| it.name == vassal.name.as_str());
            let has = |domain: &String| {
                same.is_some_and(|it| it.domains.contains(domain) && it.path == vassal.path.to_string())
            };
            vassal.domains.iter().map(ToString::to_string).filter(|it| !has(it)).count()
        };
        self.vassals.sort_by_cached_key(new_hosts);
    }

    /// Checks a daemon's own file, which is optional.
    fn daemon(file: &Path, reader: Reader, layout: &Layout) -> Self {
        let mut checked = Self { certificates: Certificates::Left, ..Self::default() };
        if file.exists() {
            checked.file(file, reader, layout);
        }
        checked
    }

    fn installation(&mut self, layout: &Layout) {
        let files = [(layout.emperord_toml(), Reader::Emperord), (layout.frontd_toml(), Reader::Frontd)];
        for (path, reader) in files.into_iter().filter(|(path, _)| path.exists()) {
            self.file(&path, reader, layout);
        }
        if !layout.frontd_toml().exists() {
            self.certificates(&FrontdConfig::new(layout), layout);
        }
        self.folder(&emperord_config(layout).vassals, |_| Reader::Vassal, layout);
    }

    fn certificates(&mut self, config: &FrontdConfig, layout: &Layout) {
        let is_systems = *layout == Layout::system() && rustix::process::geteuid().is_root();
        let reader = if is_systems { certificates::Reader::of_unit() } else { None };
        if let Some(folder) = &config.tls.certificates {
            self.problems.extend(certificates::check(folder, reader.as_ref()));
        }
    }

    /// Checks the files of a folder, without its subfolders.
    fn folder(&mut self, folder: &Path, reader: impl Fn(&Path) -> Reader, layout: &Layout) {
        let files = match files(folder) {
            Ok(files) => files,
            Err(error) => {
                return self.problems.push(Problem::of_file(folder, format!("cannot be read: {error}")));
            }
        };
        for path in files {
            match name_of(&path) {
                Some(_) => self.file(&path, reader(&path), layout),
                None => self.skipped.push(path),
            }
        }
    }

    fn file(&mut self, path: &Path, reader: Reader, layout: &Layout) {
        self.files += 1;
        if let Err(diagnostics) = self.read(path, reader, layout) {
            self.problems.extend(diagnostics);
        }
    }

    fn read(&mut self, path: &Path, reader: Reader, layout: &Layout) -> Result<(), Diagnostics> {
        match reader {
            Reader::Frontd => {
                let config = FrontdConfig::parse(Source::read(path)?, layout)?;
                if self.certificates == Certificates::Read {
                    self.certificates(&config, layout);
                }
                Ok(())
            }
            Reader::Emperord => {
                EmperordConfig::parse(Source::read(path)?, layout, WORKERD.as_ref()).map(drop)
            }
            Reader::Vassal => {
                let source = Source::read(path)?;
                let digest = vassal::text_digest(&source.text);
                let vassal = Vassal::parse(path, &source.text)?;
                let sockets = vassal.check_sockets(&emperord_config(layout));
                self.problems.extend(user::check(&vassal).into_iter().flatten());
                let env_file = vassal.env_file.as_deref().and_then(|it| dotenv::read(it).err());
                let env_file =
                    env_file.map(|it| vassal.refuse("env_file", Wrong::new(format!("can't be used: {it}"))));
                self.problems.extend(env_file.into_iter().flatten());
                let python = match interpreter::check(&vassal) {
                    Finding::Good => None,
                    Finding::Bad(wrong) => Some(vassal.refuse("python", wrong)),
                    Finding::NotAsked(reason) => {
                        self.not_asked.entry(reason).or_default().push(vassal.name.to_string());
                        None
                    }
                };
                self.belongs(&vassal.file, digest, layout);
                self.vassals.push(vassal);
                sockets?;
                python.map_or(Ok(()), Err)
            }
        }
    }

    /// Notes which installation the file of an app belongs to.
    fn belongs(&mut self, file: &Path, digest: String, layout: &Layout) {
        match self.installations.iter_mut().find(|it| it.0 == *layout) {
            Some((_, files)) => _ = files.insert(file.to_owned(), digest),
            None => self.installations.push((layout.clone(), Digests::from([(file.to_owned(), digest)]))),
        }
    }

    fn print(
        &self,
        handler: &impl ReportHandler,
        stderr: &mut impl io::Write,
        stdout: &mut impl io::Write,
    ) -> io::Result<()> {
        for path in &self.skipped {
            writeln!(stderr, "skipped {}, which is no vassal file: those end in .toml", path.display())?;
        }
        for vassal in self.vassals.iter().filter(|it| it.app_chosen_by == ChosenBy::Folder) {
            let (file, app, directory) = (vassal.file.display(), &vassal.app, vassal.directory.display());
            writeln!(stdout, "{file}: app = \"{app}\", found in {directory}")?;
        }
        for (vassal, absent) in
            self.vassals.iter().flat_map(|it| it.absent_files().into_iter().map(move |absent| (it, absent)))
        {
            writeln!(stdout, "{}: {absent}", vassal.file.display())?;
        }
        for (reason, apps) in &self.not_asked {
            writeln!(stdout, "interpreter not checked of {}: {reason}", apps.join(", "))?;
        }
        for (reason, apps) in &self.unknown_limits {
            writeln!(stdout, "limits not checked of {}: {reason}", apps.join(", "))?;
        }
        if !self.unknown_users.is_empty() {
            let apps = self.unknown_users.join(", ");
            writeln!(
                stdout,
                "user not checked of {apps}: only a running emperord can tell whether it accepts the owner of `directory`"
            )?;
        }
        if !self.unread.is_empty() {
            let apps = self.unread.join(", ");
            writeln!(stdout, "emperord hasn't read these files yet, and may refuse them: {apps}")?;
        }
        for problem in &self.problems {
            writeln!(stderr, "{}", fmt::from_fn(|f| handler.debug(problem, f)))?;
        }
        let files = counted(self.files, "file");
        match self.problems.len() {
            0 => writeln!(stdout, "{files} checked, all good"),
            errors => writeln!(stdout, "{files} checked, {}", counted(errors, "error")),
        }
    }
}

/// Returns the installation that a path is in: its root, the folder of its apps' files, or one of the files in these.
fn installation_of(path: &Path) -> Option<Layout> {
    let path = absolute(path).ok()?;
    let candidates = [
        Some(path.as_path()),
        path.parent(),
        path.parent().filter(|it| it.ends_with("vassals")).and_then(Path::parent),
    ];
    let root = candidates.into_iter().flatten().find(|it| it.join("vassals").is_dir())?;
    let system = Layout::system();
    if system.etc == root { Some(system) } else { Layout::under(root).ok() }
}

/// Reads emperord.toml, or returns the defaults. Errors in it are reported elsewhere.
fn emperord_config(layout: &Layout) -> EmperordConfig {
    let workerd = WORKERD.as_ref();
    EmperordConfig::load(layout, workerd).unwrap_or_else(|_| EmperordConfig::new(layout, workerd))
}

/// Which program reads a file.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Frontd,
    Emperord,
    Vassal,
}

impl Reader {
    /// Guesses from the file's name and folder.
    fn of(path: &Path) -> Self {
        let among_vassals = path.parent().is_some_and(|folder| folder.ends_with("vassals"));
        match path.file_name().and_then(OsStr::to_str) {
            Some("frontd.toml") if !among_vassals => Self::Frontd,
            Some("emperord.toml") if !among_vassals => Self::Emperord,
            _ => Self::Vassal,
        }
    }
}

/// Lists the files of a folder by name, without hidden ones.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut files = fs::read_dir(folder)?.map(|it| it.map(|it| it.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| !path.is_dir() && !hidden(path));
    files.sort();
    Ok(files)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
