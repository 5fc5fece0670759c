//! Finds the Python interpreters on this machine.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The variable that names additional interpreters, separated like `PATH`.
pub const MORE: &str = "TEST_PYTHONS";

/// A Python interpreter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Python {
    /// Its path, with symbolic links resolved.
    pub path: PathBuf,
    /// Major and minor.
    pub version: (u32, u32),
    /// Such as `cpython`.
    pub implementation: String,
    /// Whether it uses a shared libpython.
    pub shared: bool,
}

/// All interpreters that start: those in `PATH`, those of pyenv, and those named by the variable.
#[must_use]
pub fn all() -> Vec<Python> {
    let path = env::var_os("PATH").unwrap_or_default();
    let names: Vec<_> =
        (0..20).map(|minor| format!("python3.{minor}")).chain(["python2.7".into(), "pypy3".into()]).collect();
    let in_path = env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |it| folder.join(it)).collect::<Vec<_>>());
    let of_pyenv = pyenv_root().into_iter().flat_map(|root| {
        let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        versions.map(|version| version.path().join("bin/python")).collect::<Vec<_>>()
    });
    let more = env::var_os(MORE).unwrap_or_default();
    let candidates = in_path.chain(of_pyenv).chain(env::split_paths(&more).collect::<Vec<_>>());
    // A pyenv shim isn't an interpreter itself, but reports the one that it starts.
    let real: BTreeSet<_> = candidates.filter(|it| it.is_file()).filter_map(|it| Python::of(&it)).collect();
    real.into_iter().collect()
}

fn pyenv_root() -> Option<PathBuf> {
    let named = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let reported = || {
        let output = Command::new("pyenv").arg("root").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    };
    named.or_else(reported).or_else(|| Some(env::home_dir()?.join(".pyenv")))
}

impl Python {
    /// Asks an interpreter what it is. None if it doesn't start.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let ask = "import sys, sysconfig, os; i = getattr(sys, 'implementation', None); \
                   print('%s\\n%d\\n%d\\n%s\\n%d' % ((os.path.realpath(sys.executable),) + tuple(sys.version_info[:2]) \
                   + (getattr(i, 'name', 'cpython'), sysconfig.get_config_var('Py_ENABLE_SHARED') or 0)))";
        let output = Command::new(path).args(["-c", ask]).output().ok().filter(|it| it.status.success())?;
        let output = String::from_utf8(output.stdout).ok()?;
        let lines: Vec<_> = output.lines().collect();
        let [path, major, minor, implementation, shared] = lines.as_slice() else { return None };
        Some(Self {
            path: path.into(),
            version: (major.parse().ok()?, minor.parse().ok()?),
            implementation: (*implementation).to_owned(),
            shared: *shared == "1",
        })
    }

    /// Whether apps can run on it.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.implementation == "cpython" && self.version >= (3, 10)
    }

    /// Creates a virtualenv with it.
    ///
    /// # Errors
    /// If that fails.
    pub fn make_venv(&self, folder: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.path);
        let output = command.args(["-m", "venv", "--without-pip"]).arg(folder).output();
        let output = output.with_context(|| format!("run {}", self.path.display()))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "make a virtualenv with {}: {stderr}", self.path.display());
        Ok(())
    }
}
