//! The daemons' programs, and what each is told on its command line.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use daemon::logging::Format;
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use rustix::process::Signal;

use super::listeners::Listeners;
use super::stack::{Program, Succession};

/// The names of the daemons, in the log too.
pub(crate) const EMPEROR: &str = "emperord";
pub(crate) const FRONT: &str = "frontd";

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    emperord: PathBuf,
    frontd: PathBuf,
    pub(crate) workerd: PathBuf,
}

/// A program is not where it has to be.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("find {name} in {}", folder.display())]
#[diagnostic(help(
    "install Imperium again: emperord, frontd, workerd and libpyworker.so belong into one folder, imperium next to them or into `bin`"
))]
pub(crate) struct MissingError {
    name: &'static str,
    folder: PathBuf,
}

/// What both daemons are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) root: &'a Path,
    pub(crate) log_format: Format,
    /// The file that the last lines of the log are kept in.
    pub(crate) log_copy: &'a Path,
}

/// Whom the error pages are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Visitors.
    Production,
    /// The developer, who is shown more.
    Development,
}

impl Pages {
    fn argument(self) -> Option<OsString> {
        (self == Self::Development).then(|| "--development".into())
    }
}

impl Programs {
    /// Those that belong to this program.
    pub(crate) fn of_this() -> miette::Result<Self> {
        let this = env::current_exe().into_diagnostic().wrap_err("find the daemons")?;
        let folder = folder_for(&this);
        let find = |name| match folder.join(name) {
            program if program.is_file() => Ok(program),
            _ => Err(MissingError { name, folder: folder.clone() }),
        };
        Ok(Self { emperord: find(EMPEROR)?, frontd: find(FRONT)?, workerd: find("workerd")? })
    }

    /// SIGINT, as it would leave its workers to the next emperord after SIGTERM.
    pub(crate) fn emperord(&self, told: Told<'_>, pages: Pages) -> Program {
        Program {
            name: EMPEROR,
            path: self.emperord.clone(),
            arguments: told.arguments().chain(pages.argument()).collect(),
            log_copy: told.log_copy.to_owned(),
            listeners: Listeners::default(),
            stop: Signal::INT,
            succession: Succession::AtEnd,
        }
    }

    /// The front, which serves `listeners`.
    pub(crate) fn frontd(&self, told: Told<'_>, pages: Pages, listeners: Listeners) -> Program {
        Program {
            name: FRONT,
            path: self.frontd.clone(),
            arguments: told.arguments().chain(pages.argument()).collect(),
            log_copy: told.log_copy.to_owned(),
            listeners,
            stop: Signal::TERM,
            succession: Succession::AtDrain,
        }
    }
}

/// The folder of the daemons for a command: packages and wheels put them into `lib/imperium` next to its `bin`. In a cargo
/// target folder, all programs are in one.
fn folder_for(command: &Path) -> PathBuf {
    let folder = command.parent().unwrap_or(Path::new("/"));
    let private = folder.parent().map(|prefix| prefix.join("lib/imperium"));
    private.filter(|it| it.join(EMPEROR).is_file()).unwrap_or_else(|| folder.to_owned())
}

impl Told<'_> {
    fn arguments(self) -> impl Iterator<Item = OsString> {
        let format = self.log_format.name();
        ["--root".into(), self.root.into(), "--log-format".into(), format.into()].into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn daemons_are_in_the_private_folder_or_beside_the_command() {
        let prefix = tempfile::tempdir().unwrap();
        let path = |name: &str| prefix.path().join(name);
        assert_eq!(folder_for(&path("bin/imperium")), path("bin"));
        fs::create_dir_all(path("lib/imperium")).unwrap();
        assert_eq!(folder_for(&path("bin/imperium")), path("bin"), "a folder of something else");
        fs::write(path("lib/imperium/emperord"), "").unwrap();
        assert_eq!(folder_for(&path("bin/imperium")), path("lib/imperium"));
    }
}
