//! kosoku, which runs the cases of the Autobahn test suite on Python 3.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use xtask::setup::Quietly as _;
use xtask::step::step;

/// What is installed.
const REQUIREMENT: &str = "kosoku==0.1.0";

/// An installed kosoku.
pub(crate) struct Kosoku {
    /// The folder of its virtualenv and its reports.
    folder: PathBuf,
    venv: PathBuf,
}

impl Kosoku {
    /// Installs it into `target/autobahn/venv`, unless that was done.
    ///
    /// # Errors
    /// If there is no Python, or the package can't be installed.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let folder = place::root().join("target/autobahn");
        let venv = folder.join("venv");
        let stamp = venv.join("made-for");
        if !fs::read_to_string(&stamp).is_ok_and(|it| it == REQUIREMENT) {
            step("kosoku", "the runner of the cases, target/autobahn/venv", || {
                Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).quietly()?;
                let mut pip = Command::new(venv.join("bin/python"));
                pip.args(["-m", "pip", "install", "--disable-pip-version-check", REQUIREMENT]).quietly()?;
                fs::write(&stamp, REQUIREMENT).with_context(|| format!("write {}", stamp.display()))
            })?;
        }
        Ok(Self { folder, venv })
    }

    /// The virtualenv.
    pub(crate) fn venv(&self) -> &Path {
        &self.venv
    }

    /// Runs the cases that match one of the patterns, or all, and returns the index of its report.
    ///
    /// # Errors
    /// If it can't be run, or writes no report.
    pub(crate) async fn run(
        &self,
        transport: &str,
        address: SocketAddr,
        parallel: u8,
        only: &[String],
    ) -> anyhow::Result<PathBuf> {
        let reports = self.folder.join(transport);
        let index = reports.join("index.json");
        if index.exists() {
            fs::remove_file(&index).with_context(|| format!("remove {}", index.display()))?;
        }
        let mut kosoku = tokio::process::Command::new(self.venv.join("bin/kosoku"));
        kosoku.args(["--mode", "fuzzingclient", "--parallelism", &parallel.to_string()]);
        kosoku.args(only.iter().flat_map(|it| ["--include", it]));
        kosoku.arg("--outdir").arg(&reports).arg(address.to_string());
        kosoku.stdin(Stdio::null()).kill_on_drop(true);
        let output = kosoku.output().await.context("run kosoku")?;
        // It fails if a case does, which the report says, too.
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(index.exists(), "kosoku ended with {}, and has written no report: {stderr}", output.status);
        Ok(index)
    }
}
