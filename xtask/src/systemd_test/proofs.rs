//! What is proven, in order.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::wait::until;

use super::apps;
use super::container::Container;
use super::install;
use crate::step::heading;

/// Connections of the load.
const CONNECTIONS: usize = 4;
/// Answers before, and again after, each thing that is done under load.
const ANSWERS: u64 = 100;

/// All of it.
pub(crate) async fn run(container: &mut Container, place: &Place) -> anyhow::Result<()> {
    apps::prepare(container)?;
    let limits = "workers = 2\n[limits]\nmemory = \"300 MB\"\ncpu = \"150%\"\n";
    apps::deploy(container, "blog", limits)?;
    container.run("systemctl enable --now emperord frontd@1")?;
    answers(container, "blog").await?;
    said("the site answers over HTTP, HTTPS and HTTP/2");

    units(container)?;
    said("each worker is a unit, with the user and the limits of its app's file; all are hardened");
    restarts(container).await?;
    upgrade(container, place).await?;
    kills(container).await?;
    apps_are_apart(container).await?;
    apps_that_cannot_start(container).await?;

    container.reboot().await?;
    answers(container, "blog").await?;
    answers(container, "shop").await?;
    said("after a reboot, both apps answer");
    removal(container)?;
    said("what was removed leaves no process, no socket and no unit behind");
    Ok(())
}

async fn answers(container: &Container, app: &str) -> anyhow::Result<()> {
    let mut last = None;
    let what = format!("{app} answers");
    let whole = until(&what, async || {
        last = ask_all(container, app).await.err();
        Ok(last.is_none().then_some(()))
    });
    whole.await.with_context(|| format!("{last:?}"))
}

async fn ask_all(container: &Container, app: &str) -> anyhow::Result<()> {
    for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
        client(container, app, protocol)?.get("/who").await?.expect(200)?;
    }
    Ok(())
}

fn client(container: &Container, app: &str, protocol: Protocol) -> anyhow::Result<Client> {
    let port = if protocol == Protocol::Plain { 80 } else { 443 };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Client::new(&container.root().join("srv/site.crt"), &format!("{app}.example"), address, protocol)
}

/// What systemd says of them.
fn units(container: &Container) -> anyhow::Result<()> {
    let uid = container.run("id -u blog")?;
    let properties = container.run("systemctl show workerd@blog-1 -p User,MemoryMax,CPUQuotaPerSecUSec")?;
    let mut told: Vec<_> = properties.lines().collect();
    told.sort_unstable();
    let user = format!("User={uid}");
    ensure!(told == ["CPUQuotaPerSecUSec=1.500000s", "MemoryMax=300000000", &user], "{properties}");
    let journal = container.run("journalctl -u 'workerd@blog-*' -o cat")?;
    ensure!(journal.contains("blog-1: serving") && journal.contains("blog-2: serving"), "{journal}");
    memory_is_bounded(container)?;
    for (unit, most) in
        [("frontd@1.service", 2.5), ("emperord.service", 4.0), ("workerd@blog-1.service", 4.0)]
    {
        let exposure = exposure(container, unit)?;
        ensure!(exposure < most, "`systemd-analyze security {unit}` says {exposure}, not less than {most}");
    }
    Ok(())
}

/// What the kernel says, where cgroup v2 has the controller; of the older one nspawn gives none to a container.
fn memory_is_bounded(container: &Container) -> anyhow::Result<()> {
    let limit = "cat /sys/fs/cgroup/imperium.slice/workerd@blog-1.service/memory.max 2>/dev/null || true";
    match container.run(limit)?.parse::<u64>() {
        // In whole pages.
        Ok(bytes) => ensure!((299_000_000..=300_000_000).contains(&bytes), "the kernel allows {bytes} bytes"),
        Err(_) => {
            told("not here", "that the kernel holds the limits: cgroup v2 has no memory controller");
        }
    }
    Ok(())
}

fn exposure(container: &Container, unit: &str) -> anyhow::Result<f64> {
    let all = container.run("systemd-analyze --no-pager security")?;
    let line =
        all.lines().find(|line| line.starts_with(unit)).with_context(|| format!("find {unit} in {all}"))?;
    Ok(line.split_whitespace().nth(1).context("find the exposure")?.parse()?)
}

/// Does something while requests are under way, of which none may be lost.
async fn without_loss(container: &Container, kind: Kind, what: &str, done: &str) -> anyhow::Result<()> {
    let load = Load::start(&client(container, "blog", Protocol::Http1)?, CONNECTIONS, kind);
    load.flows(ANSWERS).await?;
    container.run_beside(done).await?;
    load.flows(ANSWERS).await?;
    let ledger = load.finish().await?;
    ledger.all_right().with_context(|| what.to_owned())?;
    said(&format!("{what}: {} requests, none lost", ledger.sent));
    Ok(())
}

async fn restarts(container: &Container) -> anyhow::Result<()> {
    let both = Kind::Both;
    without_loss(container, both, "systemctl restart emperord", "systemctl restart emperord").await?;
    without_loss(container, both, "systemctl start frontd@2", "systemctl start frontd@2").await?;
    for unit in ["frontd@1", "frontd@2"] {
        let restart = format!("systemctl restart {unit}");
        without_loss(container, both, &restart, &restart).await?;
    }
    without_loss(container, both, "systemctl reload frontd@1", "systemctl reload frontd@1").await?;
    let before = main_pid(container, "workerd@blog-1")?;
    for number in [1, 2] {
        let restart = format!("systemctl restart workerd@blog-{number}");
        without_loss(container, both, &restart, &restart).await?;
    }
    ensure!(main_pid(container, "workerd@blog-1")? != before, "workerd@blog-1 was not restarted");
    workers(container, "blog", &["blog-1", "blog-2"]).await?;
    without_loss(container, both, "imperium reload blog", "imperium reload blog").await
}

/// Waits until an app has these workers, which are units, and no others.
async fn workers(container: &Container, app: &str, names: &[&str]) -> anyhow::Result<()> {
    let expected: Vec<_> = names.iter().map(|name| format!("workerd@{name}.service")).collect();
    let list =
        format!("systemctl list-units --plain --no-legend --state=activating,active 'workerd@{app}-*'");
    let mut last = String::new();
    let what = format!("{app} has the workers {names:?}");
    let settled = until(&what, async || {
        last = container.run(&list)?;
        let units: Vec<_> = last.lines().filter_map(|line| line.split_whitespace().next()).collect();
        Ok((units == expected).then_some(()))
    });
    settled.await.context(last)
}

fn main_pid(container: &Container, unit: &str) -> anyhow::Result<u32> {
    Ok(container.run(&format!("systemctl show -p MainPID --value {unit}"))?.parse()?)
}

async fn upgrade(container: &Container, place: &Place) -> anyhow::Result<()> {
    install::files(container.root(), place)?;
    let steps = "systemctl daemon-reload; systemctl restart emperord; systemctl restart frontd@1; \
                 systemctl restart frontd@2; imperium reload blog";
    without_loss(container, Kind::Both, "an upgrade", steps).await
}

async fn kills(container: &Container) -> anyhow::Result<()> {
    let kill = |unit: &str| format!("kill -9 $(systemctl show -p MainPID --value {unit})");
    let worker = container
        .run("systemctl list-units --plain --no-legend 'workerd@blog-*' | cut -d' ' -f1 | head -1")?;
    without_loss(container, Kind::Gets, "kill -9 of a worker, with GETs", &kill(&worker)).await?;
    let before = main_pid(container, "emperord")?;
    without_loss(container, Kind::Both, "kill -9 of emperord", &kill("emperord")).await?;
    until("emperord is there again", async || {
        Ok((![0, before].contains(&main_pid(container, "emperord")?)).then_some(()))
    })
    .await?;
    container.run("systemctl stop frontd@2")?;
    container.run(&kill("frontd@1"))?;
    // Who connects now waits in the socket, which is systemd's: nobody is refused.
    ask_all(container, "blog").await?;
    said("kill -9 of frontd: who connects next is answered");
    Ok(())
}

async fn apps_are_apart(container: &Container) -> anyhow::Result<()> {
    without_loss_of_first(container).await?;
    answers(container, "shop").await?;
    let shop = client(container, "shop", Protocol::Http1)?;
    let (blog_uid, shop_uid) = (uid(container, "blog").await?, uid(container, "shop").await?);
    ensure!(blog_uid != shop_uid && blog_uid != 0 && shop_uid != 0, "users: {blog_uid} and {shop_uid}");
    let tried = async |question: &str| Ok::<_, anyhow::Error>(shop.get(question).await?.expect(200)?.text());
    for (question, answer) in [
        ("/read?/srv/shop/secret", "\"done\""),
        ("/read?/srv/blog/secret", "\"PermissionError\""),
        ("/read?/etc/imperium/vassals/blog.toml", "\"PermissionError\""),
        ("/read?/etc/imperium/certificates/site.key", "\"PermissionError\""),
        ("/connect?/run/imperium/emperord.sock", "\"done\""),
        ("/connect?/run/imperium/workers/blog/blog-1.sock", "\"PermissionError\""),
    ] {
        let told = tried(question).await?;
        ensure!(told == answer, "{question} of shop: {told}, not {answer}");
    }
    let refused =
        container.run("! setpriv --reuid shop --regid shop --groups imperium imperium status 2>&1")?;
    ensure!(refused.contains("neither root nor"), "{refused}");
    said("a second app: each runs as its own user, and reaches neither files nor sockets of the other");
    Ok(())
}

/// Each is told of plainly, is tried in no loop, and harms nobody.
async fn apps_that_cannot_start(container: &Container) -> anyhow::Result<()> {
    for (more, told) in [
        ("user = \"nobody-is-called-so\"\n", "systemd says `failed` of workerd@third-1.service"),
        ("env.IMPORT = \"fails\"\n", "ZeroDivisionError"),
    ] {
        let what = format!("the status says {told}");
        apps::deploy(container, "third", more)?;
        let mut last = String::new();
        let heard = until(&what, async || {
            last = container.run("imperium status || true")?;
            Ok(last.contains(told).then_some(()))
        });
        heard.await.context(last)?;
        answers(container, "blog").await?;
    }
    // Started, and no longer wanted before it was ready.
    apps::deploy(container, "third", "env.IMPORT = \"hangs\"\n")?;
    workers(container, "third", &["third-1", "third-2"]).await?;
    apps::remove(container, "third")?;
    workers(container, "third", &[]).await?;
    said("apps that cannot start: the status says why, and the others serve on");
    Ok(())
}

async fn without_loss_of_first(container: &Container) -> anyhow::Result<()> {
    let load = Load::start(&client(container, "blog", Protocol::Http1)?, CONNECTIONS, Kind::Both);
    load.flows(ANSWERS).await?;
    apps::deploy(container, "shop", "workers = 1\n")?;
    workers(container, "shop", &["shop-1"]).await?;
    load.flows(ANSWERS).await?;
    load.finish().await?.all_right()
}

async fn uid(container: &Container, app: &str) -> anyhow::Result<u64> {
    let who = client(container, app, Protocol::Http1)?.get("/who").await?.json()?;
    who["uid"].as_u64().context("find the user in what /who says")
}

fn removal(container: &Container) -> anyhow::Result<()> {
    container.run(
        "systemctl disable --now frontd@1 frontd-http.socket frontd-https.socket emperord
         systemctl stop 'frontd@*' 'workerd@*'",
    )?;
    install::remove(container.root())?;
    container.run("systemctl daemon-reload")?;
    let left =
        container.run("ps -eo args | grep -E '^/usr/bin/(frontd|emperord|workerd)|^imperium:' || true")?;
    ensure!(left.is_empty(), "processes are left: {left}");
    let units =
        container.run("systemctl list-units --plain --no-legend 'frontd*' emperord.service 'workerd@*'")?;
    ensure!(units.is_empty(), "units are left: {units}");
    let refused = std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], 443).into(), Duration::from_secs(5));
    ensure!(refused.is_err(), "port 443 is still open");
    Ok(())
}

fn said(what: &str) {
    told("proven", what);
}

#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
fn told(name: &str, what: &str) {
    eprintln!("{} {what}", heading(name));
}
