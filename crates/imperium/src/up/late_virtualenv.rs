//! Uses a virtualenv that is created while `up APP` runs, if the app can't start without one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{DocumentMut, value};
use tracing::warn;

use super::python::Choice;

/// How often it is looked for.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Where a virtualenv may appear, and the file that it is written into.
#[derive(Debug)]
pub(crate) struct LateVirtualenv {
    /// The app's file, if it was given as one.
    pub(super) app: Option<PathBuf>,
    /// The working directory.
    pub(super) folder: PathBuf,
    /// The file for emperord.
    pub(super) vassal: PathBuf,
}

impl LateVirtualenv {
    /// Looks for a virtualenv. If there is one, writes it into the file, so that emperord starts new workers, and returns
    /// the line to print.
    pub(super) fn look(&self) -> Option<String> {
        let choice = Choice::new(self.app.as_deref(), &self.folder);
        let virtualenv = choice.virtualenv.as_deref()?;
        match self.write(virtualenv) {
            Ok(()) => Some(format!("There is a virtualenv now: trying with {choice}\n")),
            Err(error) => {
                warn!(%error, "can't use the virtualenv {}: restart `imperium up`", virtualenv.display());
                Some(String::new())
            }
        }
    }

    fn write(&self, virtualenv: &Path) -> io::Result<()> {
        let mut file: DocumentMut = fs::read_to_string(&self.vassal)?.parse().map_err(io::Error::other)?;
        file["python"] = value(virtualenv.to_string_lossy().as_ref());
        fs::write(&self.vassal, file.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtualenv_that_appears_is_written_into_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |it: &str| folder.path().join(it);
        fs::write(at("app.toml"), "app = \"app.py\"\n\n[env]\nA = \"1\"\n").unwrap();
        let late = LateVirtualenv {
            app: Some(at("app.py")),
            folder: folder.path().to_owned(),
            vassal: at("app.toml"),
        };
        assert_eq!(late.look(), None);
        fs::create_dir_all(at(".venv/bin")).unwrap();
        assert_eq!(late.look(), None, "it isn't complete");
        fs::write(at(".venv/bin/python"), "").unwrap();
        let shown = at(".venv").display().to_string();
        assert_eq!(
            late.look().unwrap(),
            format!("There is a virtualenv now: trying with {shown} (the virtualenv next to the app)\n")
        );
        let text = fs::read_to_string(at("app.toml")).unwrap();
        assert_eq!(text, format!("app = \"app.py\"\npython = \"{shown}\"\n\n[env]\nA = \"1\"\n"));
    }
}
