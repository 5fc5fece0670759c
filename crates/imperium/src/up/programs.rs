//! Finds the daemons' programs, and builds their command lines.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::emperord::ConfiguredBy;
use daemon::logging::Format;
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use rustix::process::Signal;

use super::listeners::Listeners;
use super::stack::{Program, Succession};

/// The daemons' names, also in the log.
pub(crate) const EMPEROR: &str = "emperord";
pub(crate) const FRONT: &str = "frontd";

/// The paths of the programs.
#[derive(Debug)]
pub(crate) struct Programs {
    emperord: PathBuf,
    frontd: PathBuf,
    pub(crate) workerd: PathBuf,
}

/// A program is missing.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("find {name} in {}", folder.display())]
#[diagnostic(help(
    "install Imperium again: emperord, frontd, workerd and libpyworker.so belong into one folder, imperium next to them or into `bin`"
))]
pub(crate) struct MissingError {
    name: &'static str,
    folder: PathBuf,
}

/// Arguments of both daemons.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    pub(crate) root: &'a Path,
    pub(crate) log_format: Format,
    /// The file that keeps the last lines of the log.
    pub(crate) log_copy: &'a Path,
}

/// Who the error pages are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Visitors.
    Production,
    /// The developer, who is shown details.
    Development,
}

impl Pages {
    fn argument(self) -> Option<OsString> {
        (self == Self::Development).then(|| "--development".into())
    }
}

impl Programs {
    /// Finds the daemons that belong to this program.
    pub(crate) fn of_this() -> miette::Result<Self> {
        let this = env::current_exe().into_diagnostic().wrap_err("find the daemons")?;
        let folder = folder_for(&this);
        let find = |name| match folder.join(name) {
            program if program.is_file() => Ok(program),
            _ => Err(MissingError { name, folder: folder.clone() }),
        };
        Ok(Self { emperord: find(EMPEROR)?, frontd: find(FRONT)?, workerd: find("workerd")? })
    }

    /// It is stopped with SIGINT, since after SIGTERM it would leave its workers running for the next
    /// emperord.
    pub(crate) fn emperord(&self, options: Options<'_>, pages: Pages, by: ConfiguredBy) -> Program {
        let by = (by == ConfiguredBy::Options).then(|| "--configured-by-options".into());
        Program {
            name: EMPEROR,
            path: self.emperord.clone(),
            arguments: options.arguments().chain(pages.argument()).chain(by).collect(),
            log_copy: options.log_copy.to_owned(),
            listeners: Listeners::default(),
            stop: Signal::INT,
            succession: Succession::AtEnd,
        }
    }

    /// The front server, which serves `listeners`.
    pub(crate) fn frontd(&self, options: Options<'_>, pages: Pages, listeners: Listeners) -> Program {
        Program {
            name: FRONT,
            path: self.frontd.clone(),
            arguments: options.arguments().chain(pages.argument()).collect(),
            log_copy: options.log_copy.to_owned(),
            listeners,
            stop: Signal::TERM,
            succession: Succession::AtDrain,
        }
    }
}

/// The folder of the daemons: packages and wheels install them into `lib/imperium` next to `bin`. In cargo's
/// target folder, all programs are together.
fn folder_for(command: &Path) -> PathBuf {
    let folder = command.parent().unwrap_or(Path::new("/"));
    let private = folder.parent().map(|prefix| prefix.join("lib/imperium"));
    private.filter(|it| it.join(EMPEROR).is_file()).unwrap_or_else(|| folder.to_owned())
}

impl Options<'_> {
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
    fn daemons_are_in_the_private_folder_or_next_to_the_command() {
        let prefix = tempfile::tempdir().unwrap();
        let path = |name: &str| prefix.path().join(name);
        assert_eq!(folder_for(&path("bin/imperium")), path("bin"));
        fs::create_dir_all(path("lib/imperium")).unwrap();
        assert_eq!(folder_for(&path("bin/imperium")), path("bin"), "a folder of something else");
        fs::write(path("lib/imperium/emperord"), "").unwrap();
        assert_eq!(folder_for(&path("bin/imperium")), path("lib/imperium"));
    }
}
