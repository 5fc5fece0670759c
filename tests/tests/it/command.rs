//! The command line, where it needs no stack that is there already.

use std::process::{Command, Output};

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;
use tests::visit;
use tests::wait::until;

#[tokio::test]
async fn one_app_without_any_file() -> anyhow::Result<()> {
    for app in ["edges.py", "edges:application"] {
        let place = Place::of_tests()?;
        let folder = place.apps.join("wsgi");
        let stack = Stack::one_app(place, &folder, &[app, "--workers", "2"])?;
        let outcome = visit_one_app(&stack).await;
        if outcome.is_err() {
            stack.show_log();
        }
        outcome.and(stack.end_beside_clients().await)?;
    }
    Ok(())
}

async fn visit_one_app(stack: &Stack) -> anyhow::Result<()> {
    until("the CA is printed", async || Ok(stack.ca().ok())).await?;
    for (protocol, address) in
        [(Protocol::Plain, stack.http), (Protocol::Http1, stack.https), (Protocol::Http2, stack.https)]
    {
        let client = Client::new(&stack.ca()?, "localhost", address, protocol)?;
        client.get("/hello").await?.expect(200)?;
        visit::pid(&client).await?;
    }
    Ok(())
}

#[test]
fn check_tells_what_is_wrong_and_what_to_do() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("blog.toml");
    let vassal = Vassal::wsgi(&place).workers(2);

    std::fs::write(&file, vassal.text())?;
    let good = check(&place, &file)?;
    ensure!(good.status.success(), "a good file is refused: {good:?}");

    std::fs::write(&file, vassal.text().replace("workers = 2", "wokers = 2"))?;
    let bad = check(&place, &file)?;
    let said = String::from_utf8([bad.stdout, bad.stderr].concat())?;
    ensure!(!bad.status.success(), "a bad file passes");
    for words in ["blog.toml:4:1", "wokers = 2", "`workers`"] {
        ensure!(said.contains(words), "{words} expected in:\n{said}");
    }
    Ok(())
}

fn check(place: &Place, file: &std::path::Path) -> anyhow::Result<Output> {
    Ok(Command::new(place.binaries.join("imperium")).arg("check").arg(file).output()?)
}
