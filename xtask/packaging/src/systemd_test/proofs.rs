//! The tests, in the order of the guide.

mod apart;
mod failing;
mod kills;
mod logs;
mod ports;
mod removal;
mod restarts;
mod upgrade;

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::load::Kind;

use super::container::Container;
use super::guide::{Chapter, Guide};
use super::units::{self, Bound};
use super::visitors::{answers, client, without_loss};
use crate::dist::Built;
use xtask::step::heading;

/// Runs all tests.
pub(crate) async fn run(container: &mut Container, built: &Built) -> anyhow::Result<()> {
    let mut guide = Guide::read()?;
    let bare = removal::files(container)?;
    the_site_answers(container, &guide.chapter("From a bare server to your site")?).await?;
    a_renewed_certificate(container, &guide.chapter("A certificate of a public authority")?).await?;
    let moving = guide.chapter("Moving from nginx + uWSGI")?;
    followed(container, &moving).await?;
    followed(container, &guide.chapter("Several apps on one server")?).await?;
    apart::prove(container).await?;
    workers_are_units(container).await?;
    followed(container, &guide.chapter("Scaling")?).await?;
    restarts::prove(container).await?;
    upgrade::prove(container, built, &guide.chapter("Upgrading")?).await?;
    followed(container, &guide.chapter("Reading logs")?).await?;
    logs::prove(container).await?;
    followed(container, &guide.chapter("When something fails")?).await?;
    failing::prove(container).await?;
    kills::prove(container).await?;
    a_reboot(container).await?;
    removal::prove(container, &guide.chapter("Removing it")?, &bare)?;
    guide.ensure_followed()?;
    ports::prove(container, &moving).await
}

async fn the_site_answers(container: &Container, chapter: &Chapter) -> anyhow::Result<()> {
    container.run_beside(&chapter.script()).await?;
    answers(container, "blog").await?;
    let blog = client(container, "blog", Protocol::Http2)?;
    let page = blog.get("/").await?.expect(200)?;
    ensure!(page.text() == "This is blog.\n", "the site says {}", page.text());
    let style = blog.get("/static/site.css").await?.expect(200)?;
    ensure!(style.text().starts_with("body"), "the style sheet is {}", style.text());
    proven("the guide leads from a bare server to a site over HTTP, HTTPS and HTTP/2, with its static files");
    blog.get("/upload?folder=/srv/blog/static/made/by/it").await?.expect(200)?;
    let upload = blog.get("/static/made/by/it/file.txt").await?.expect(200)?;
    ensure!(upload.text() == "uploaded", "the upload is {}", upload.text());
    proven("what the app writes, into folders that it makes, is served by frontd");
    Ok(())
}

/// What certbot would run, and what a certificate authority would request.
async fn a_renewed_certificate(container: &Container, chapter: &Chapter) -> anyhow::Result<()> {
    followed(container, chapter).await?;
    let token = "var/www/acme/.well-known/acme-challenge/token";
    fs::write(container.root().join(token), "proof")?;
    let asked = client(container, "blog", Protocol::Plain)?.get("/.well-known/acme-challenge/token").await?;
    ensure!(asked.text() == "proof", "the authority got {}", asked.text());
    container.run(
        "mkdir -p /etc/letsencrypt/live/blog.example
         cp /root/blog.example.crt /etc/letsencrypt/live/blog.example/fullchain.pem
         cp /root/blog.example.key /etc/letsencrypt/live/blog.example/privkey.pem
         RENEWED_LINEAGE=/etc/letsencrypt/live/blog.example /etc/letsencrypt/renewal-hooks/deploy/imperium
         rm /etc/imperium/certificates/blog.example.*
         systemctl reload 'frontd@*'",
    )?;
    answers(container, "blog").await?;
    proven("a renewed certificate is handed over, and shown");
    Ok(())
}

/// Follows a chapter under load.
async fn followed(container: &Container, chapter: &Chapter) -> anyhow::Result<()> {
    let requests = without_loss(container, Kind::Both, &chapter.script()).await?;
    proven(&format!("the guide, \"{}\": {requests} requests meanwhile, none lost", chapter.title));
    Ok(())
}

async fn workers_are_units(container: &Container) -> anyhow::Result<()> {
    let workers = units::ready(container, "blog", 2).await?;
    for worker in &workers {
        units::has_its_user_and_limits(container, worker)?;
        let journal = container.run(&format!("journalctl -o cat -u {worker}"))?;
        ensure!(journal.contains("serving"), "{worker} says {journal}");
    }
    units::are_hardened(container, &workers[0])?;
    proven("each worker is a unit, with the user and the limits of its app's file; all are hardened");
    if units::memory_bound(container, &workers[0])? == Bound::NotHere {
        print_line("not here", "that the kernel holds the limits: cgroup v2 has no memory controller");
    }
    Ok(())
}

async fn a_reboot(container: &mut Container) -> anyhow::Result<()> {
    container.reboot().await?;
    answers(container, "blog").await?;
    answers(container, "shop").await?;
    proven("after a reboot, both apps answer");
    Ok(())
}

fn proven(what: &str) {
    print_line("proven", what);
}

#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
fn print_line(name: &str, what: &str) {
    eprintln!("{} {what}", heading(name));
}
