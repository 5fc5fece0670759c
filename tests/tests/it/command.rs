//! Commands that don't need a running stack.

use std::process::{Command, Output};

use anyhow::ensure;
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;
use tests::visit;
use tests::wait::until;

#[tokio::test]
async fn one_app_without_a_file() -> anyhow::Result<()> {
    for app in ["edges.py", "edges:application"] {
        let place = Place::of_tests()?;
        let folder = place.apps.join("wsgi");
        let stack = Stack::one_app(place, &folder, &[app, "--workers", "2"])?;
        let outcome = visit_one_app(&stack).await;
        if outcome.is_err() {
            stack.show_log();
        }
        outcome.and(stack.stop_with_clients().await)?;
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
fn check_reports_errors_with_hints() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("blog.toml");
    let vassal = Vassal::wsgi(&place).workers(2);

    std::fs::write(&file, vassal.text())?;
    let good = check(&place, &file)?;
    ensure!(good.status.success(), "a good file is refused: {good:?}");

    std::fs::write(&file, vassal.text().replace("workers = 2", "wokers = 2"))?;
    let bad = check(&place, &file)?;
    let output = String::from_utf8([bad.stdout, bad.stderr].concat())?;
    ensure!(!bad.status.success(), "a bad file passes");
    for words in ["blog.toml:4:1", "wokers = 2", "`workers`"] {
        ensure!(output.contains(words), "{words} expected in:\n{output}");
    }
    Ok(())
}

fn check(place: &Place, file: &std::path::Path) -> anyhow::Result<Output> {
    Ok(Command::new(place.binaries.join("imperium")).arg("check").arg(file).output()?)
}

/// The output of `imperium`, whether it succeeds or not.
fn text_of(output: Output) -> anyhow::Result<String> {
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}

#[test]
fn check_recognizes_other_programs_users_and_keys() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("blog.toml");
    let text = Vassal::wsgi(&place).workers(2).text();
    let text = if text.contains("user = ") { text } else { format!("user = \"root\"\n{text}") };
    for (changed, words) in [
        (format!("python = \"/bin/ls\"\n{text}"), "names /bin/ls, which is no Python"),
        (
            text.replace("user = \"root\"", "user = \"no-such-user\""),
            "names no-such-user, who is no user of this machine",
        ),
        (format!("processes = 4\n{text}"), "here it is `workers`"),
        (format!("wsgi-file = \"a.py\"\n{text}"), "here it is `app`"),
        (format!("{text}\n[recycle]\nrequest = 5\n"), "did you mean `requests`?"),
        (format!("{text}\n[timeouts]\nharakiri = 5\n"), "here it is `request` in `[timeouts]`"),
    ] {
        std::fs::write(&file, &changed)?;
        let output = check(&place, &file)?;
        let is_good = output.status.success();
        let output = text_of(output)?;
        ensure!(
            !is_good && output.contains(words),
            "{words:?} is expected of:\n{changed}\nwhich gives:\n{output}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn check_and_emperord_blame_the_same_file_for_a_duplicate_host() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    tests::stack::with([Vassal::wsgi(&place)], async |stack| {
        let text = Vassal::wsgi(&place).text();
        // It comes first by name, but the other app already has the host.
        stack.write("aaa", &text)?;
        stack.logged(&["aaa.toml:", "which is taken by", "wsgi.toml"]).await?;
        for option in [Some("--root"), None] {
            let mut command = Command::new(place.binaries.join("imperium"));
            let output = text_of(command.arg("check").args(option).arg(stack.root()).output()?)?;
            ensure!(
                output.contains("which is taken by") && output.contains("aaa.toml:"),
                "{option:?}: {output}"
            );
            ensure!(output.contains("vassals/wsgi.toml"), "{option:?}: {output}");
        }
        stack.remove("aaa")
    })
    .await
}

#[tokio::test]
async fn check_reports_limits_that_emperord_refuses() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    tests::stack::with([Vassal::wsgi(&place)], async |stack| {
        let limited = Vassal::wsgi(&place).named("limited").domain("limited.localhost");
        stack.put(&limited.table("[limits]\nmemory = \"500 MB\"\n"))?;
        // emperord reads the file a moment later.
        let mut command = Command::new(place.binaries.join("imperium"));
        let output = command.arg("check").arg("--root").arg(stack.root()).output()?;
        let settled = |it: &tests::status::App| !it.error().is_empty() || !it.workers.is_empty();
        let app = stack.until("limited", "emperord has read the file", settled).await?;
        if !app.error().contains("cannot be applied") {
            skip::skip!("limits can be set here");
        }
        let is_good = output.status.success();
        let told = text_of(output)?;
        ensure!(
            !is_good && told.contains("emperord refuses it: `limits.memory` cannot be applied"),
            "{told}"
        );
        // emperord hasn't read the new version yet.
        stack.put(&Vassal::wsgi(&place).named("limited").domain("limited.localhost"))?;
        let mut command = Command::new(place.binaries.join("imperium"));
        let output = command.arg("check").arg("--root").arg(stack.root()).output()?;
        let is_good = output.status.success();
        ensure!(is_good, "the previous version is refused: {}", text_of(output)?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn check_says_which_limits_emperord_has_not_read() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    tests::stack::with([Vassal::wsgi(&place)], async |stack| {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("limited.toml");
        let limited = Vassal::wsgi(&place).table("[limits]\nmemory = \"500 MB\"\n");
        std::fs::write(&file, limited.text())?;
        let mut command = Command::new(place.binaries.join("imperium"));
        let told = text_of(command.arg("check").arg(&file).arg("--root").arg(stack.root()).output()?)?;
        ensure!(told.contains("limits not checked of limited: emperord hasn't read the file"), "{told}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn up_reports_a_mistake_once() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let broken = Vassal::wsgi(&place).named("broken").domain("broken.localhost").key("wokers = 3");
    let vassals = [Vassal::wsgi(&place), broken];
    let stack = Stack::start(place, vassals)?;
    let outcome = Box::pin(async {
        stack.logged(&["broken.toml:", "unknown key `wokers`: did you mean `workers`?"]).await?;
        stack.ready("wsgi", 1).await?;
        let log = stack.log();
        ensure!(log.matches("unknown key `wokers`").count() == 1, "it is reported twice:\n{log}");
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

/// Runs `imperium` as nobody if the tests run as root.
fn as_nobody(
    place: &Place,
    arguments: &[&std::ffi::OsStr],
    home: &std::path::Path,
) -> anyhow::Result<Output> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(place.binaries.join("imperium"));
    command.args(arguments).env("HOME", home).env_remove("IMPERIUM_ROOT").env_remove("XDG_DATA_HOME");
    if rustix::process::geteuid().is_root() {
        command.gid(65_534).uid(65_534);
    }
    Ok(command.stdin(std::process::Stdio::null()).output()?)
}

/// A folder that belongs to nobody.
fn home() -> anyhow::Result<tempfile::TempDir> {
    let home = tempfile::tempdir()?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(home.path(), Some(65_534), Some(65_534))?;
    }
    Ok(home)
}

#[test]
fn a_user_who_may_not_add_an_app_gets_a_hint() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let home = home()?;
    let output = as_nobody(&place, &["new".as_ref(), place.apps.join("flask").as_os_str()], home.path())?;
    let output = text_of(output)?;
    for words in ["/etc/imperium/vassals/flask.toml", "sudo", "--root DIR"] {
        ensure!(output.contains(words), "{words:?} is expected in: {output}");
    }
    Ok(())
}

#[test]
fn the_version_names_the_build_and_completions_are_printed() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let run = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(place.binaries.join("imperium")).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?} fails");
        text_of(output)
    };
    let version = run(&["--version"])?;
    ensure!(version.starts_with("imperium ") && version.contains("-linux)"), "{version}");
    for shell in ["bash", "zsh", "fish"] {
        ensure!(run(&["completion", shell])?.contains("imperium completion --apps"), "{shell}");
    }
    let complete = "set -e; source <(\"$0\" completion bash); COMP_WORDS=(imperium relo); COMP_CWORD=1; \
                    _imperium_with_apps imperium relo imperium; echo \"${COMPREPLY[*]}\"";
    let bash = Command::new("bash").arg("-c").arg(complete).arg(place.binaries.join("imperium")).output()?;
    let completed = text_of(bash)?;
    ensure!(completed.trim() == "reload", "bash completes `relo` by {completed:?}");
    ensure!(run(&["man", "up"])?.contains(".TH imperium-up 1"), "no man page");
    Ok(())
}
