//! The container image: its files are consistent, and the stack behaves correctly as process 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::container::Container;
use tests::containerfile::Containerfile;
use tests::place::Place;
use tests::process::{self, Process};
use tests::vassal::Vassal;
use tests::wait::until;

use crate::gate::Gate;

const KEYWORDS: [&str; 14] = [
    "ARG",
    "FROM",
    "COPY",
    "RUN",
    "ENV",
    "USER",
    "WORKDIR",
    "VOLUME",
    "EXPOSE",
    "HEALTHCHECK",
    "STOPSIGNAL",
    "ENTRYPOINT",
    "CMD",
    "LABEL",
];

#[tokio::test]
async fn process_1_reaps_orphans_answers_probes_and_stops_gracefully() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let container = Container::run(&recipe()?, &place, [Vassal::wsgi(&place).workers(2)])?;
    let ran = in_container(&container).await;
    let held = ran.with_context(|| container.out())?;
    container.stop().await?;
    until("it drains", async || Ok(container.out().contains("frontd: draining").then_some(()))).await?;
    ensure!(!container.is_healthy().await?, "it drains, and says that it is well");
    held.pass().await?;
    ensure!(container.err().is_empty(), "on stderr: {}", container.err());
    let (status, out) = container.end().await?;
    ensure!(status.code() == Some(0) && out.contains("imperium: stopped"), "ended with {status}: {out}");
    Ok(())
}

/// Leaves a request running.
async fn in_container(container: &Container) -> anyhow::Result<Gate> {
    until("the container is well", async || Ok(container.is_healthy().await?.then_some(()))).await?;
    let init = Process::of(container.init().await?).context("process 1 has ended")?;
    ensure!(init.command == "imperium", "process 1 is {init:?}");
    let client = container.client("wsgi")?;
    client.get("/hello").await?.expect(200)?;
    let status = container.exec(&["imperium", "status"]).await?;
    ensure!(status.is_some_and(|it| it.contains("wsgi")), "`imperium status` does not know where it is");

    container.exec(&["sh", "-c", "sleep 600 >/dev/null 2>&1 &"]).await?.context("leave an orphan")?;
    let orphan = child(&init, "sleep").await?;
    is_reaped(&init, orphan).await.context("an orphan of the container")?;
    // After emperord has died, its worker is an orphan, like any process in the container.
    let emperord = child(&init, "emperord").await?;
    let worker = Process::descendants(emperord).first().context("emperord has no worker")?.clone();
    is_reaped(&init, emperord).await?;
    is_reaped(&init, worker.pid).await.context("a worker")?;

    let held = Gate::get(&client, container.root());
    held.begun(1).await?;
    Ok(held)
}

async fn child(of: &Process, command: &str) -> anyhow::Result<u32> {
    let child = async || Ok(Process::descendants(of.pid).into_iter().find(|it| it.command == command));
    Ok(until(&format!("{command} runs"), child).await?.pid)
}

/// Kills a process, and waits until it was reaped.
async fn is_reaped(init: &Process, pid: u32) -> anyhow::Result<()> {
    process::signal(pid, rustix::process::Signal::KILL)?;
    let children = PathBuf::from(format!("/proc/{0}/task/{0}/children", init.pid));
    until("the child is reaped", async || {
        let children = fs::read_to_string(&children)?;
        Ok((!children.split_whitespace().any(|it| it == pid.to_string())).then_some(()))
    })
    .await
}

#[test]
fn all_files_named_by_the_containerfile_exist() -> anyhow::Result<()> {
    let recipe = recipe()?;
    for it in recipe.instructions() {
        ensure!(KEYWORDS.contains(&it.keyword.as_str()), "{it:?} is no instruction");
    }
    for source in recipe.all("COPY").filter(|it| !it.starts_with("--from=") && !it.starts_with('$')) {
        let source = source.split_whitespace().next().context("COPY what?")?;
        ensure!(repository().join(source).is_file(), "{source} is not in the repository");
    }
    let package = recipe.all("ARG").find_map(|it| it.strip_prefix("PACKAGE=")).context("no package")?;
    ensure!(package == "target/dist/imperium_*_amd64.deb", "`cargo xtask dist` makes no {package}");
    for run in recipe.all("RUN") {
        ensure!(shell(&["-n", "-c", run])?, "sh cannot read {run}");
        for command in run.split("&&").filter_map(|it| it.split_whitespace().next()) {
            ensure!(shell(&["-c", "command -v \"$0\"", command])?, "there is no {command}");
        }
    }
    for program in [&recipe.entrypoint()?[0], &recipe.health_check()?[0]] {
        ensure!(shell(&["-c", "command -v \"$0\"", program])?, "there is no {program}");
    }
    Ok(())
}

#[test]
fn the_image_runs_as_its_own_unprivileged_user() -> anyhow::Result<()> {
    let recipe = recipe()?;
    let (user, group) = recipe.last("USER")?.split_once(':').context("USER names a group, too")?;
    ensure!(user.parse::<u32>()? > 0 && group.parse::<u32>()? > 0, "{user}:{group} is root");
    let made: String = recipe.all("RUN").collect();
    ensure!(made.contains(&format!("groupadd --gid {group} ")), "nobody made the group {group}");
    ensure!(made.contains(&format!("useradd --uid {user} ")), "nobody made the user {user}");
    Ok(())
}

#[test]
fn ports_are_the_same_in_all_files() -> anyhow::Result<()> {
    let (recipe, frontd) = (recipe()?, fs::read_to_string(folder().join("frontd.toml"))?);
    let exposed: Vec<_> = recipe.last("EXPOSE")?.split_whitespace().collect();
    for key in ["http = ", "https = "] {
        let line = frontd.lines().find(|it| it.starts_with(key)).context("frontd.toml has no such key")?;
        ensure!(exposed.iter().any(|it| line.contains(&format!(":{it}\""))), "{line} is not exposed");
    }
    let admin = frontd.lines().find_map(|it| it.strip_prefix("admin = \"")).context("no admin")?;
    let (host, port) = admin.trim_end_matches('"').split_once(':').context("no port")?;
    let check = recipe.health_check()?.concat();
    ensure!(check.contains(host) && check.contains(port), "the health check does not ask {admin}");
    for published in strings(&compose()?["services"]["site"]["ports"]) {
        ensure!(
            exposed.iter().any(|it| published.ends_with(&format!(":{it}"))),
            "{published} is not exposed"
        );
    }
    Ok(())
}

#[test]
fn frontd_reads_the_file_of_the_image() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    fs::copy(folder().join("frontd.toml"), root.path().join("frontd.toml"))?;
    let mut check = Command::new(Place::of_tests()?.binaries.join("imperium"));
    let check = check.args(["check", "--only", "frontd", "--root"]).arg(root.path()).output()?;
    ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    Ok(())
}

#[test]
fn all_files_named_by_the_compose_file_exist() -> anyhow::Result<()> {
    let (recipe, compose) = (recipe()?, compose()?);
    let site = &compose["services"]["site"];
    let context = folder().join(site["build"]["context"].as_str().context("no context")?);
    let file = context.join(site["build"]["dockerfile"].as_str().context("no dockerfile")?);
    ensure!(file.canonicalize()? == folder().join("Containerfile").canonicalize()?, "{}", file.display());
    let root = recipe.all("ENV").find_map(|it| it.strip_prefix("IMPERIUM_ROOT=")).context("no root")?;
    let mounted: Vec<_> = strings(&site["volumes"]).collect();
    for part in ["vassals", "certificates", "run"] {
        let target = format!(":{root}/{part}");
        ensure!(mounted.iter().any(|it| it.contains(&target)), "nothing is mounted at {root}/{part}");
    }
    for volume in mounted.iter().filter(|it| !it.starts_with("./")) {
        let (name, target) = volume.split_once(':').context("a volume without a target")?;
        ensure!(compose["volumes"].get(name).is_some(), "the volume {name} is not declared");
        ensure!(recipe.last("VOLUME")? == target, "{target} is no volume of the image");
    }
    Ok(())
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn compose() -> anyhow::Result<Value> {
    serde_yaml_ng::from_str(&fs::read_to_string(folder().join("compose.yaml"))?).context("read compose.yaml")
}

fn recipe() -> anyhow::Result<Containerfile> {
    Containerfile::read(&folder().join("Containerfile"))
}

/// Runs a shell with the image's `PATH`, which includes root's folders.
fn shell(arguments: &[&str]) -> anyhow::Result<bool> {
    let mut shell = Command::new("/bin/sh");
    shell.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").args(arguments);
    Ok(shell.output().context("run sh")?.status.success())
}

fn folder() -> PathBuf {
    repository().join("deploy/container")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}
