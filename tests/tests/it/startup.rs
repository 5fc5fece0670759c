//! How an app is found, created and started, and the errors if that fails.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;

const FACTORY: &str = r#"
def create_app():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"made by a factory"]
    return application

def make_nothing():
    pass

class made:
    create = staticmethod(create_app)
"#;

#[tokio::test]
async fn a_factory_returns_the_app() -> anyhow::Result<()> {
    with_file("shop.py", FACTORY, async |stack, folder| {
        for (number, app) in
            ["shop:create_app()", "shop.py:create_app()", "shop:made.create()"].into_iter().enumerate()
        {
            let name = format!("shop{number}");
            stack.put(&Vassal::new(&name, folder, app))?;
            stack.ready(&name, 1).await?;
            let text = stack.client(&name, Protocol::Http2)?.get("/").await?.expect(200)?.text();
            ensure!(text == "made by a factory", "{app}: {text}");
        }
        fails(stack, folder, "shop:make_nothing()", "make_nothing() returned NoneType").await?;
        fails(stack, folder, "shop:no_such()", "module shop has no `no_such`: write `create_app()`").await?;
        fails(stack, folder, "shop", "has neither `application` nor `app`: write `create_app()`").await?;
        // The call was forgotten.
        let forgotten = "`create_app` doesn't take the arguments of a WSGI or ASGI app";
        is_refused(
            stack,
            folder,
            "shop:create_app",
            &format!("{forgotten}: if it returns the app, write `shop:create_app()`"),
        )
        .await?;
        fs::write(folder.join("main.py"), format!("{FACTORY}\napp = create_app"))?;
        is_refused(stack, folder, "main.py", "write `main.py:create_app()`").await?;
        // The app's file has the name of a package.
        fs::write(folder.join("flask.py"), "from flask import Flask\napp = Flask(__name__)")?;
        let vassal = Vassal::new("fails", folder, "flask.py").python(&Place::of_tests()?.venv);
        stack.put(&vassal)?;
        let hides = "flask.py hides the package `flask`: rename the file";
        stack.until("fails", hides, |app| app.error().contains(hides)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_is_found_automatically_and_reported() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let database = tempfile::NamedTempFile::new()?;
    stack::with([Vassal::wsgi(&place)], async |stack| {
        let flask = Vassal::flask(&place).named("found");
        let django = Vassal::django(&place, database.path());
        for (vassal, chosen) in [(flask, "app.py"), (django, "site_django.wsgi")] {
            let named = |line: &&str| !line.starts_with("app = ");
            let text: String = vassal.text().lines().filter(named).map(|line| format!("{line}\n")).collect();
            stack.write(vassal.name(), &text)?;
            let status = stack.until(vassal.name(), "it runs", App::is_whole).await?;
            ensure!(status.app_was_found && status.app == chosen, "{status:#?}");
            stack.logged(&["found the app in its folder", &format!("chosen={chosen}")]).await?;
        }
        let table = stack.command("status", &[]).await?;
        ensure!(table.contains("app, found in its folder: app.py"), "{table}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_folder_without_an_obvious_app_is_reported() -> anyhow::Result<()> {
    with_file("shop.py", FACTORY, async |stack, folder| {
        let directory = folder.display();
        stack.write("unclear", &format!("domains = [\"a.localhost\"]\ndirectory = \"{directory}\"\n"))?;
        let reported = |app: &App| app.error().contains("contains no wsgi.py, app.py, */wsgi.py");
        stack.until("unclear", "the error lists the searched names", reported).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hanging_import_is_killed() -> anyhow::Result<()> {
    with_file("slow.py", "import time\nwhile True: time.sleep(1)\n", async |stack, folder| {
        for preload in ["preload = false", "preload = true"] {
            let name = preload.replace(" = ", "-");
            let timeouts = "[timeouts]\nstart = \"1s\"";
            stack.put(&Vassal::new(&name, folder, "slow").workers(2).key(preload).table(timeouts))?;
            let why = "was not ready within 1 s: see what its start waits for";
            let ended =
                |app: &App| app.state == "backing_off" && app.error().contains(why) && app.workers.is_empty();
            stack.until(&name, "it is ended, and tried again later", ended).await?;
        }
        Ok(())
    })
    .await
}

async fn fails(stack: &Stack, folder: &Path, app: &str, why: &str) -> anyhow::Result<()> {
    stack.put(&Vassal::new("fails", folder, app))?;
    let failed = |app: &App| app.state == "backing_off" && app.error().contains(why);
    stack.until("fails", why, failed).await?;
    Ok(())
}

/// The same, if only a change of a file helps: then it isn't tried again before.
async fn is_refused(stack: &Stack, folder: &Path, app: &str, why: &str) -> anyhow::Result<()> {
    stack.put(&Vassal::new("fails", folder, app))?;
    stack.until("fails", why, |app| app.error().contains(why)).await?;
    Ok(())
}

/// A stack, and a folder with one file.
async fn with_file(
    name: &str,
    text: &str,
    test: impl AsyncFnOnce(&Stack, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join(name), text)?;
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| test(stack, folder.path()).await).await
}

#[tokio::test]
async fn a_program_other_than_python_is_reported() -> anyhow::Result<()> {
    with_file("shop.py", FACTORY, async |stack, folder| {
        for (number, preload) in ["preload = false", "preload = true"].into_iter().enumerate() {
            let name = format!("ls{number}");
            let vassal = Vassal::new(&name, folder, "shop:create_app()").python(Path::new("/bin/ls"));
            stack.put(&vassal.key(preload))?;
            let why = "exited with status 2 before /bin/ls had loaded the worker: `python` must be a CPython of 3.10 or";
            stack.until(&name, "it is reported", |app| app.error().contains(why)).await?;
        }
        Ok(())
    })
    .await
}
