//! Creates what the tests and the demo need: the apps' virtualenv, the daemons, Django's database and static
//! files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use place::Place;

use crate::step::{self, print_line, step};

const PROGRAMS: [&str; 4] = ["frontd", "emperord", "workerd", "imperium"];

/// The paths of everything that `run` creates.
#[must_use]
pub fn place() -> Place {
    Place::in_target(&crate::root().join("target"))
}

/// Creates what is missing or out of date, and returns the paths. Also builds the programs `more` of the
/// workspace.
///
/// # Errors
/// If a step fails.
pub fn run(more: &[&str]) -> anyhow::Result<Place> {
    make(place(), || programs(more))
}

/// Like `run`, with the programs in that folder or release builds of them, and a virtualenv that other packages
/// may be installed into.
///
/// # Errors
/// Same as `run`.
pub fn for_bench(programs: Option<PathBuf>) -> anyhow::Result<Place> {
    let target = crate::root().join("target");
    let (venv, kept) = (target.join("bench/venv"), target.join("bench/apps"));
    let is_built = programs.is_some();
    let binaries = programs.unwrap_or_else(|| target.join("release"));
    make(Place { binaries, venv, kept, ..place() }, || if is_built { Ok(()) } else { release() })
}

fn release() -> anyhow::Result<()> {
    step("build", "the programs as they are released, target/release", || {
        let mut cargo = step::cargo();
        cargo.args(["build", "--release", "--package", "pyworker"]);
        cargo.args(PROGRAMS.iter().flat_map(|name| ["--package", name]));
        step::done(cargo)
    })
}

/// Builds the programs of a stack, and the programs `more` of the workspace.
///
/// # Errors
/// If the build fails.
pub fn programs(more: &[&str]) -> anyhow::Result<()> {
    step("build", "the programs, target/debug", || {
        let names = PROGRAMS.iter().chain(more).flat_map(|name| ["--bin", name]);
        step::done(cargo_build(&["--lib"].into_iter().chain(names).collect::<Vec<_>>()))
    })
}

/// A build with the profile of checkouts. It selects the whole workspace, whatever the targets: otherwise,
/// dependencies would have other features and would be compiled again.
#[must_use]
pub fn cargo_build(targets: &[&str]) -> Command {
    let mut cargo = step::cargo();
    cargo.args(["build", "--workspace"]).args(targets);
    cargo
}

/// Creates the virtualenv during the build, since it mostly waits for the network.
fn make(place: Place, build: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Place> {
    let inside = |path: &Path| path.strip_prefix(crate::root()).unwrap_or(path).display().to_string();
    let begun = Instant::now();
    let python = Python::find()?;
    print_line("python", &format!("the apps' virtualenv, {}, during the build", inside(&place.venv)));
    thread::scope(|scope| {
        let made = scope.spawn(|| timed(|| virtualenv(&place, &python)));
        build()?;
        let spent = made.join().map_err(|_| anyhow::anyhow!("the thread that makes it panicked")).flatten();
        print_line("python", &format!("{:.1} s", spent.context("make the apps' virtualenv")?.as_secs_f64()));
        anyhow::Ok(())
    })?;
    let kept = format!("tables, an administrator, static files, {}", inside(&place.kept));
    step("django", &kept, || django(&place))?;
    print_line("set up", &format!("{:.1} s in all", begun.elapsed().as_secs_f64()));
    Ok(place)
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    work().map(|()| begun.elapsed())
}

/// The interpreter of the virtualenv.
struct Python {
    /// Its version and path. If they change, the virtualenv is created again.
    about: String,
}

impl Python {
    /// Fails early if the interpreter is missing, too old, or lacks modules.
    fn find() -> anyhow::Result<Self> {
        let ask = "import sys, venv, ensurepip; assert sys.version_info >= (3, 10), sys.version; \
                   print(sys.base_prefix, sys.version)";
        let output = Command::new("python3")
            .args(["-c", ask])
            .output()
            .context("run python3, which must be installed")?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "python3 must be 3.10 or newer, with venv; on Debian, install python3-venv: {}",
            message.trim()
        );
        Ok(Self { about: String::from_utf8_lossy(&output.stdout).into_owned() })
    }
}

/// Creates the virtualenv again if the Python version or the requirements have changed.
fn virtualenv(place: &Place, python: &Python) -> anyhow::Result<()> {
    let requirements = place.apps.join("requirements.txt");
    let stamp = place.venv.join("made-for");
    let text =
        fs::read_to_string(&requirements).with_context(|| format!("read {}", requirements.display()))?;
    let wanted = format!("{}{text}", python.about);
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place.venv).quietly()?;
    let mut pip = in_venv(place);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    pip.quietly()?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))
}

fn django(place: &Place) -> anyhow::Result<()> {
    fs::create_dir_all(&place.kept).with_context(|| format!("create {}", place.kept.display()))?;
    for arguments in [&["migrate"] as &[_], &["seed"], &["collectstatic", "--noinput", "--clear"]] {
        let mut manage = in_venv(place);
        manage.arg(place.apps.join("django/manage.py")).args(arguments);
        manage.env("DJANGO_DB", place.django_database()).env("DJANGO_STATIC_ROOT", place.django_static());
        manage.quietly()?;
    }
    Ok(())
}

fn in_venv(place: &Place) -> Command {
    Command::new(place.venv.join("bin/python"))
}

/// A program whose output is only shown if it fails.
pub trait Quietly {
    /// Runs it.
    ///
    /// # Errors
    /// If it can't be run or fails. The error contains its output.
    fn quietly(&mut self) -> anyhow::Result<()>;
}

impl Quietly for Command {
    fn quietly(&mut self) -> anyhow::Result<()> {
        let program = PathBuf::from(self.get_program());
        let output = self.output().with_context(|| format!("run {}", program.display()))?;
        let message = [output.stdout, output.stderr].concat();
        let message = String::from_utf8_lossy(&message);
        ensure!(output.status.success(), "{} ended with {}:\n{message}", program.display(), output.status);
        Ok(())
    }
}
