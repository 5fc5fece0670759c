//! The files that `imperium new` writes for the projects of its corpus work: a real worker imports each app
//! with the real framework, and serves it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tokio::process::Command;

/// The number of projects that are started at once.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn flask_projects() -> anyhow::Result<()> {
    serve(|name| name.starts_with("flask-")).await
}

#[tokio::test]
async fn django_projects() -> anyhow::Result<()> {
    serve(|name| name.starts_with("django-")).await
}

#[tokio::test]
async fn other_projects() -> anyhow::Result<()> {
    serve(|name| !name.starts_with("flask-") && !name.starts_with("django-")).await
}

async fn serve(is_meant: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("crates/imperium/tests/corpus");
    let mut cases: Vec<_> = fs::read_dir(&corpus)?.map(|it| Ok(it?.path())).collect::<anyhow::Result<_>>()?;
    cases.retain(|it| it.join("serves").is_file() && is_meant(name(it)));
    cases.sort();
    ensure!(!cases.is_empty(), "{} has no case of these", corpus.display());
    let folder = tempfile::tempdir()?;
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let mut wrong = Vec::new();
        for cases in cases.chunks(AT_ONCE) {
            for case in cases {
                write(stack, folder.path(), case).await.with_context(|| name(case).to_owned())?;
            }
            for case in cases {
                let expected = fs::read_to_string(case.join("serves"))?;
                if let Err(error) = answers(stack, name(case), expected.trim()).await {
                    wrong.push(format!("{}: {error:#}", name(case)));
                }
                stack.remove(name(case))?;
            }
        }
        ensure!(wrong.is_empty(), "{} do not serve:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    })
    .await
}

fn name(case: &Path) -> &str {
    case.file_name().and_then(|it| it.to_str()).unwrap_or_default()
}

/// Writes the project's file with `imperium new`, with fewer workers.
async fn write(stack: &Stack, folder: &Path, case: &Path) -> anyhow::Result<()> {
    let (name, root) = (name(case), folder.join("root"));
    let project = folder.join(name);
    copy(&case.join("project"), &project)?;
    let mut new = Command::new(stack.place.binaries.join("imperium"));
    new.args(["new", "--root"]).arg(&root).args(["--name", name, "--domain", &format!("{name}.localhost")]);
    new.args(arguments(case, &project)).env("VIRTUAL_ENV", &stack.place.venv);
    let output = new.output().await.context("run `imperium new`")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(root.join("vassals").join(format!("{name}.toml")))?;
    let one = |line: &str| {
        if line.starts_with("workers = ") { "workers = 1\n".into() } else { format!("{line}\n") }
    };
    let text = text.lines().map(one).collect::<String>();
    // Root runs an app as root only if its file says so.
    let user = if rustix::process::geteuid().is_root() { "user = \"root\"\n" } else { "" };
    stack.write(name, &format!("{user}{text}"))
}

async fn answers(stack: &Stack, name: &str, expected: &str) -> anyhow::Result<()> {
    let settled = |app: &App| app.is_whole() || !app.error().is_empty();
    let app = stack.until(name, "it has started or failed", settled).await?;
    ensure!(app.is_whole(), "{}", app.error());
    let text = stack.client(name, Protocol::Plain)?.get("/").await?.expect(200)?.text();
    ensure!(text == expected, "{text:?} was answered, not {expected:?}");
    Ok(())
}

/// The project's folder, or the file or folder in it that the case names, followed by the other arguments.
fn arguments(case: &Path, project: &Path) -> Vec<PathBuf> {
    let given = fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let given: Vec<&str> = given.lines().collect();
    let (path, rest) = match given.as_slice() {
        [path, rest @ ..] if !path.starts_with('-') => (project.join(path), rest),
        rest => (project.to_owned(), rest),
    };
    [path].into_iter().chain(rest.iter().map(PathBuf::from)).collect()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
