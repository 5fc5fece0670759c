//! `imperium check`: reads files as the daemons would, and shows all that is wrong with them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::WorkerName;
use config::{Diagnostics, EmperordConfig, FrontdConfig, Layout, Problem, Source};
use miette::{IntoDiagnostic as _, Report};
use vassal::{FileNameError, Vassal, conflicts, name_of};

use crate::at::root_from_env;

/// Read vassal and daemon files, and show what is wrong with them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or folders of them [default: all files of the installation]
    paths: Vec<PathBuf>,
    /// The folder that `imperium up --root` was given [default: $IMPERIUM_ROOT, else the system's folders]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Checks, tells, and answers with the program's exit code: 1 when anything is wrong.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let root = args.root.clone().or_else(root_from_env);
    let layout = root.map_or_else(|| Ok(Layout::system()), |root| Layout::under(&root)).into_diagnostic()?;
    let checked = Checked::new(&args.paths, &layout);
    checked.tell(&mut io::stderr().lock(), &mut io::stdout().lock()).into_diagnostic()?;
    Ok(if checked.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of it.
#[derive(Debug, Default)]
struct Checked {
    files: usize,
    /// Files among the others that no daemon reads.
    skipped: Vec<PathBuf>,
    vassals: Vec<Vassal>,
    problems: Vec<Problem>,
}

/// Who reads a file.
enum Reader {
    Frontd,
    Emperord,
    Vassal,
    /// It lies among vassals, and is none.
    Nobody,
}

impl Checked {
    fn new(paths: &[PathBuf], layout: &Layout) -> Self {
        let mut checked = Self::default();
        for path in paths {
            if path.is_dir() { checked.folder(path, layout) } else { checked.file(path, layout) }
        }
        if paths.is_empty() {
            checked.folder(&layout.etc, layout);
        }
        for conflict in conflicts(&checked.vassals) {
            checked.problems.extend(conflict.diagnostics());
        }
        checked
    }

    /// The files of a folder, which is one of vassals, or one that has such a folder in it.
    fn folder(&mut self, folder: &Path, layout: &Layout) {
        let entries = match list(folder) {
            Ok(entries) => entries,
            Err(error) => return self.problems.push(Problem::of_file(folder, format!("cannot be read: {error}"))),
        };
        for entry in entries {
            match Reader::of(&entry) {
                _ if entry.is_dir() && entry.file_name().is_some_and(|name| name == "vassals") => {
                    self.folder(&entry, layout);
                }
                _ if entry.is_dir() => {}
                Reader::Nobody => self.skipped.push(entry),
                _ => self.file(&entry, layout),
            }
        }
    }

    fn file(&mut self, path: &Path, layout: &Layout) {
        self.files += 1;
        if let Err(diagnostics) = self.read(path, layout) {
            self.problems.extend(diagnostics);
        }
    }

    fn read(&mut self, path: &Path, layout: &Layout) -> Result<(), Diagnostics> {
        match Reader::of(path) {
            Reader::Frontd => FrontdConfig::parse(Source::read(path)?, layout).map(drop),
            Reader::Emperord => EmperordConfig::parse(Source::read(path)?, layout, Path::new("workerd")).map(drop),
            Reader::Vassal | Reader::Nobody => {
                let vassal = Vassal::load(path)?;
                let last = WorkerName { vassal: vassal.name.clone(), number: vassal.workers };
                let socket = layout.worker_socket(&last);
                self.vassals.push(vassal);
                socket.map(drop).map_err(|error| Problem::of_file(path, error.to_string()).into())
            }
        }
    }

    fn tell(&self, stderr: &mut impl io::Write, stdout: &mut impl io::Write) -> io::Result<()> {
        for path in &self.skipped {
            writeln!(stderr, "skipped {}, which is no vassal file: its name does not end in .toml", path.display())?;
        }
        for problem in &self.problems {
            writeln!(stderr, "{:?}", Report::new(problem.clone()))?;
        }
        let files = counted(self.files, "file");
        match self.problems.len() {
            0 => writeln!(stdout, "{files} checked, all good"),
            errors => writeln!(stdout, "{files} checked, {}", counted(errors, "error")),
        }
    }
}

impl Reader {
    fn of(path: &Path) -> Self {
        let named = |name: &str| path.file_name().is_some_and(|it| it == name);
        let among_vassals = path.parent().is_some_and(|folder| folder.ends_with("vassals"));
        match name_of(path) {
            _ if named("frontd.toml") && !among_vassals => Self::Frontd,
            _ if named("emperord.toml") && !among_vassals => Self::Emperord,
            Some(Ok(_) | Err(FileNameError::Name(_) | FileNameError::NotUtf8)) => Self::Vassal,
            None => Self::Nobody,
        }
    }
}

/// What is in a folder, by name, without what is hidden.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(folder)?.map(|it| it.map(|it| it.path())).collect::<io::Result<Vec<_>>>()?;
    entries.retain(|path| path.file_name().is_none_or(|name| !name.as_encoded_bytes().starts_with(b".")));
    entries.sort();
    Ok(entries)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
