//! The interpreter of an app.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config::Wrong;

/// Maximum number of symlinks to follow, as in the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// The interpreter of an app. It exists when the file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Python {
    /// `python3` in PATH.
    Default,
    /// The folder of a virtualenv, with its `bin/python`.
    Virtualenv(PathBuf),
    /// A program.
    Interpreter(PathBuf),
}

impl Python {
    /// Determines what a path names.
    ///
    /// # Errors
    ///
    /// Returns an error if it is neither a virtualenv nor a program.
    pub fn at(path: PathBuf) -> Result<Self, Wrong> {
        if path.is_dir() {
            return Self::virtualenv(path);
        }
        if is_program(&path) {
            return Ok(Self::Interpreter(path));
        }
        let shown = path.display();
        let (what, hint) = match path.exists() {
            true => ("is not executable", "name a virtualenv's folder".to_owned()),
            false => ("does not exist", format!("create a virtualenv with `python3 -m venv {shown}`")),
        };
        Err(Wrong::new(format!("must be a virtualenv or an interpreter, but {shown} {what}"))
            .hint(format!("{hint}, or leave `python` out")))
    }

    fn virtualenv(path: PathBuf) -> Result<Self, Wrong> {
        if is_program(&path.join("bin/python")) {
            return Ok(Self::Virtualenv(path));
        }
        let shown = path.display();
        if let Ok(target) = path.join("bin/python").read_link()
            && !path.join("bin/python").exists()
        {
            let gone = final_target(&path.join("bin"), target);
            return Err(Wrong::new(format!(
                "names the virtualenv {shown}, whose interpreter {} is gone",
                gone.display()
            ))
            .hint(format!("recreate it with `python3 -m venv --clear {shown}`, and install its packages")));
        }
        let wrong = Wrong::new(format!("must be a virtualenv, but {shown} has no executable bin/python"));
        Err(match [".venv", "venv"].iter().find(|name| is_program(&path.join(name).join("bin/python"))) {
            Some(name) => wrong.hint(format!("write \"{shown}/{name}\"")),
            None => wrong.hint(format!("create it with `python3 -m venv {shown}`")),
        })
    }

    /// The path for the worker. Empty for the default.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Default => Path::new(""),
            Self::Virtualenv(path) | Self::Interpreter(path) => path,
        }
    }
}

/// Where the links from `bin/python` finally lead. The first one may point to `python3` next to it.
fn final_target(folder: &Path, target: PathBuf) -> PathBuf {
    let mut target = folder.join(target);
    for _ in 0..MAX_LINKS {
        let Ok(next) = target.read_link() else { break };
        target = target.parent().unwrap_or(folder).join(next);
    }
    target
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}
