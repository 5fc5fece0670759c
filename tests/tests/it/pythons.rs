//! One build serves every CPython from 3.10 up: all that this machine has.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack;
use tests::vassal::Vassal;

#[tokio::test]
async fn every_python_of_this_machine() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let pythons: Vec<_> = (10..20).filter_map(|minor| interpreter(&format!("python3.{minor}"))).collect();
    ensure!(!pythons.is_empty() || interpreter("python3").is_some(), "no Python to test with");
    let vassal = |number: usize, python: &PathBuf| {
        Vassal::wsgi(&place).named(&format!("python{number}")).python(python)
    };
    let vassals: Vec<_> = pythons.iter().enumerate().map(|(number, python)| vassal(number, python)).collect();
    let names: Vec<_> = vassals.iter().map(|vassal| vassal.name().to_owned()).collect();
    stack::with(vassals, async |stack| {
        for (name, python) in names.iter().zip(&pythons) {
            let client = stack.client(name, Protocol::Http2)?;
            client.get("/hello").await?.expect(200)?;
            client.get("/raise-at-once").await?.expect(500)?;
            let echo = client.post("/echo", "text/plain", vec![b'x'; 200_000]).await?.expect(200)?;
            ensure!(echo.body.len() == 200_000, "{}: {} bytes", python.display(), echo.body.len());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_virtualenv_is_honoured() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let vassal = Vassal::wsgi(&place).python(&place.venv);
    stack::with([vassal], async |stack| {
        let told = stack.client("wsgi", Protocol::Http2)?.get("/interpreter").await?.expect(200)?.json()?;
        let venv = place.venv.display().to_string();
        ensure!(told["prefix"] == venv, "{told}");
        ensure!(told["directory"] == place.apps.join("wsgi").display().to_string(), "{told}");
        ensure!(told["path"][0] == told["directory"], "{told}");
        let packages = told["path"].as_array().is_some_and(|path| {
            path.iter().any(|it| {
                it.as_str().is_some_and(|it| it.starts_with(&venv) && it.ends_with("site-packages"))
            })
        });
        ensure!(packages, "no site-packages of the virtualenv: {told}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_process_bears_its_apps_name() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let status = stack.status().await?;
        for worker in status.app("wsgi").map(|app| app.workers.clone()).unwrap_or_default() {
            let title = std::fs::read(format!("/proc/{}/cmdline", worker.pid))?;
            let title = String::from_utf8_lossy(&title).trim_end_matches('\0').to_owned();
            let number = worker.name.replace("wsgi-", "");
            ensure!(title == format!("imperium: wsgi [{number}]"), "{title:?}");
        }
        Ok(())
    })
    .await
}

/// The real path of an interpreter that starts; a shim that only says so does not count.
fn interpreter(name: &str) -> Option<PathBuf> {
    let output = Command::new(name).args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}
