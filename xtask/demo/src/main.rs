//! Serves four apps on this machine, or checks that they are served.

mod check;

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use tests::place::Place;
use tests::vassal::Vassal;

const WORKERS: u32 = 2;

/// `cargo xtask demo` does the set-up, and passes its arguments on.
fn main() -> ExitCode {
    let is_check = env::args().any(|it| it == "--check");
    xtask::step::exit(run(is_check))
}

fn run(is_check: bool) -> anyhow::Result<()> {
    let place = xtask::setup::place();
    if is_check { check::run(place) } else { serve(&place) }
}

/// Becomes `imperium up`.
fn serve(place: &Place) -> anyhow::Result<()> {
    let root = xtask::root().join("target/demo");
    let vassals = root.join("vassals");
    fs::create_dir_all(&vassals).with_context(|| format!("create {}", vassals.display()))?;
    for vassal in apps(place, &root)? {
        fs::write(vassals.join(format!("{}.toml", vassal.name())), vassal.text())?;
    }
    let mut up = Command::new(place.binaries.join("imperium"));
    up.arg("up").arg("--root").arg(&root).args(["--http", "127.0.0.1:8080", "--https", "127.0.0.1:8443"]);
    Err(up.exec()).with_context(|| format!("run {}", place.binaries.join("imperium").display()))
}

/// The apps, with a Django database in `folder`, which is kept.
fn apps(place: &Place, folder: &Path) -> anyhow::Result<[Vassal; 4]> {
    let database = folder.join("db.sqlite3");
    if !database.exists() {
        fs::copy(place.django_database(), &database).context("copy Django's database")?;
    }
    let apps = [Vassal::flask(place), Vassal::django(place, &database), Vassal::pyramid(place)];
    let [flask, django, pyramid] = apps.map(|app| app.workers(WORKERS));
    Ok([flask, django, pyramid, Vassal::fastapi(place)])
}
