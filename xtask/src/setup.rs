//! Makes what the tests and the demo run: the apps' virtualenv, the daemons, Django's tables and files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use tests::place::Place;

use crate::step::{self, step};

const BINARIES: [&str; 4] = ["frontd", "emperord", "workerd", "imperium"];

/// Makes what is missing or stale, and tells where it is.
pub(crate) fn run() -> anyhow::Result<Place> {
    make(Place::in_target(&crate::root().join("target")), "quick")
}

/// As `run`, with the daemons as they are released, and a virtualenv that others may install into.
pub(crate) fn for_bench() -> anyhow::Result<Place> {
    let target = crate::root().join("target");
    let place = Place::in_target(&target);
    let (venv, kept) = (target.join("bench/venv"), target.join("bench/apps"));
    make(Place { binaries: target.join("release"), venv, kept, ..place }, "release")
}

fn make(place: Place, profile: &str) -> anyhow::Result<Place> {
    let inside = |path: &Path| path.strip_prefix(crate::root()).unwrap_or(path).display().to_string();
    let (venv, kept) = (inside(&place.venv), inside(&place.kept));
    step("python", &format!("the apps' virtualenv, {venv}"), || virtualenv(&place))?;
    step("build", &format!("the daemons, {}", inside(&place.binaries)), || build(profile))?;
    step("django", &format!("tables, an administrator, static files, {kept}"), || django(&place))?;
    Ok(place)
}

/// Made anew when another Python or other requirements are called for.
fn virtualenv(place: &Place) -> anyhow::Result<()> {
    let requirements = place.apps.join("requirements.txt");
    let stamp = place.venv.join("made-for");
    let wanted = fingerprint(&requirements)?;
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    let venv = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place.venv).quietly();
    venv.context("make a virtualenv with python3; on Debian, install python3-venv")?;
    let mut pip = python(place);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    pip.quietly()?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))
}

fn fingerprint(requirements: &Path) -> anyhow::Result<String> {
    let text = fs::read(requirements).with_context(|| format!("read {}", requirements.display()))?;
    let version =
        Command::new("python3").args(["-c", "import sys; print(sys.base_prefix, sys.version)"]).output();
    let version = version.context("run python3, which must be installed")?;
    Ok(format!("{:x}", Sha256::new().chain_update(text).chain_update(version.stdout).finalize()))
}

fn build(profile: &str) -> anyhow::Result<()> {
    let mut cargo = step::cargo();
    cargo.args(["build", "--profile", profile, "--package", "pyworker"]);
    cargo.args(BINARIES.iter().flat_map(|name| ["--package", name]));
    let status = cargo.status().context("run cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}

fn django(place: &Place) -> anyhow::Result<()> {
    fs::create_dir_all(&place.kept).with_context(|| format!("create {}", place.kept.display()))?;
    for arguments in [&["migrate"] as &[_], &["seed"], &["collectstatic", "--noinput", "--clear"]] {
        let mut manage = python(place);
        manage.arg(place.apps.join("django/manage.py")).args(arguments);
        manage.env("DJANGO_DB", place.django_database()).env("DJANGO_STATIC_ROOT", place.django_static());
        manage.quietly()?;
    }
    Ok(())
}

fn python(place: &Place) -> Command {
    Command::new(place.venv.join("bin/python"))
}

/// A program whose output matters only when it fails.
pub(crate) trait Quietly {
    /// Runs it to its end; the error tells what it said.
    fn quietly(&mut self) -> anyhow::Result<()>;
}

impl Quietly for Command {
    fn quietly(&mut self) -> anyhow::Result<()> {
        let program = PathBuf::from(self.get_program());
        let output = self.output().with_context(|| format!("run {}", program.display()))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "{} ended with {}:\n{said}", program.display(), output.status);
        Ok(())
    }
}
