//! One build supports every CPython since 3.10: tests all versions on this machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, ensure};
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::pythons::{self, Python};
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;

#[tokio::test]
async fn every_python_on_this_machine_with_a_virtualenv() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let pythons: Vec<Python> = pythons::all().into_iter().filter(Python::is_served).collect();
    ensure!(!pythons.is_empty(), "no Python to test with");
    let mut vassals = Vec::new();
    for (number, python) in pythons.iter().enumerate() {
        let venv = folder.path().join(format!("venv{number}"));
        python.make_venv(&venv)?;
        let vassal = Vassal::wsgi(&place).python(&venv);
        vassals.push(vassal.clone().named(&format!("python{number}")));
        vassals.push(vassal.named(&format!("preload{number}")).key("preload = true\nthreads = 2"));
    }
    stack::with(vassals, async |stack| {
        for (number, python) in pythons.iter().enumerate() {
            for name in ["python", "preload"] {
                let client = stack.client(&format!("{name}{number}"), Protocol::Http2)?;
                served(&client, python, &folder.path().join(format!("venv{number}"))).await?;
            }
        }
        Ok(())
    })
    .await
}

async fn served(client: &Client, python: &Python, venv: &Path) -> anyhow::Result<()> {
    client.get("/hello").await?.expect(200)?;
    client.get("/raise-at-once").await?.expect(500)?;
    let echo = client.post("/echo", "text/plain", vec![b'x'; 200_000]).await?.expect(200)?;
    ensure!(echo.body.len() == 200_000, "{python:?}: {} bytes", echo.body.len());
    let report = client.get("/interpreter").await?.expect(200)?.json()?;
    ensure!(report["prefix"] == venv.display().to_string(), "{python:?}: {report}");
    Ok(())
}

#[tokio::test]
async fn a_python_that_is_too_old_is_reported() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let old: Vec<_> = pythons::all().into_iter().filter(|it| !it.is_served()).collect();
    stack::with([Vassal::wsgi(&place)], async |stack| {
        for (number, python) in old.iter().enumerate() {
            let why = format!("use interpreter {} (", python.path.display());
            refused(stack, &format!("old{number}"), &python.path, &[&why, "is needed"]).await?;
        }
        stack.client("wsgi", Protocol::Http2)?.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

/// The real PyPy if it is installed, otherwise a CPython that claims to be PyPy.
#[tokio::test]
async fn pypy_is_reported() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("pypy3");
    let real = pythons::all().into_iter().find(|it| it.implementation == "pypy");
    let path = match real {
        Some(python) => python.path,
        None => {
            let script = "#!/bin/sh\nshift\ncode=$1\nshift\nexec python3 -c \
                          \"import sys; sys.implementation.name = 'pypy'\n$code\" \"$@\"\n";
            fs::write(&program, script)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            program
        }
    };
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        refused(stack, "pypy", &path, &["CPython is needed, and this is pypy"]).await
    })
    .await
}

/// With and without preload.
async fn refused(stack: &Stack, name: &str, python: &Path, why: &[&str]) -> anyhow::Result<()> {
    for preload in ["false", "true"] {
        let vassal = Vassal::wsgi(&stack.place).named(name).python(python);
        stack.put(&vassal.key(&format!("preload = {preload}")))?;
        let failed = |app: &App| app.state == "failed" && why.iter().all(|why| app.error().contains(why));
        stack.until(name, "it has failed, and report why", failed).await?;
    }
    stack.remove(name)
}

#[tokio::test]
async fn a_virtualenv_whose_interpreter_is_gone() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let (link, venv) = (folder.path().join("python3"), folder.path().join("venv"));
    let python = pythons::all().into_iter().find(Python::is_served).context("a Python to test with")?;
    symlink(&python.path, &link)?;
    Python { path: link.clone(), ..python.clone() }.make_venv(&venv)?;
    let vassal = Vassal::wsgi(&place).python(&venv);
    stack::with([vassal.clone()], async |stack| {
        let pid = stack.ready("wsgi", 1).await?[0];
        fs::remove_file(&link)?;
        stack.kill(pid)?;
        let why = format!("{}, which it was created with, no longer exists: recreate it", link.display());
        let failed = |app: &App| app.state == "failed" && app.error().contains(&why);
        stack.until("wsgi", "it has failed, and report why", failed).await?;

        stack.put(&vassal.clone().env("COLOUR", "green"))?;
        let why = format!(":10: `python` names the virtualenv {}, whose interpreter", venv.display());
        let reported = |app: &App| app.error().contains("wsgi.toml:") && app.error().contains(&why);
        stack.until("wsgi", "the error names its file", reported).await?;

        symlink(&python.path, &link)?;
        stack.touch("wsgi")?;
        stack.ready("wsgi", 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_virtualenv_is_honoured() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let vassal = Vassal::wsgi(&place).python(&place.venv);
    stack::with([vassal], async |stack| {
        let report = stack.client("wsgi", Protocol::Http2)?.get("/interpreter").await?.expect(200)?.json()?;
        let venv = place.venv.display().to_string();
        ensure!(report["prefix"] == venv, "{report}");
        ensure!(report["directory"] == place.apps.join("wsgi").display().to_string(), "{report}");
        ensure!(report["path"][0] == report["directory"], "{report}");
        let packages = report["path"].as_array().is_some_and(|path| {
            path.iter().any(|it| {
                it.as_str().is_some_and(|it| it.starts_with(&venv) && it.ends_with("site-packages"))
            })
        });
        ensure!(packages, "no site-packages of the virtualenv: {report}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_process_has_its_apps_name() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?).workers(2)], async |stack| {
        let status = stack.status().await?;
        for worker in status.app("wsgi").map(|app| app.workers.clone()).unwrap_or_default() {
            let title = fs::read(format!("/proc/{}/cmdline", worker.pid))?;
            let title = String::from_utf8_lossy(&title).trim_end_matches('\0').to_owned();
            let number = worker.name.replace("wsgi-", "");
            ensure!(title == format!("imperium: wsgi [{number}]"), "{title:?}");
        }
        Ok(())
    })
    .await
}
