//! Isolation of two apps on a server.

use anyhow::{Context as _, ensure};
use tests::client::Protocol;

use super::super::container::Container;
use super::super::units;
use super::super::visitors::{answers, client};
use super::proven;

pub(crate) async fn prove(container: &Container) -> anyhow::Result<()> {
    answers(container, "shop").await?;
    let (blog_uid, shop_uid) = (uid(container, "blog").await?, uid(container, "shop").await?);
    ensure!(blog_uid != shop_uid && blog_uid != 0 && shop_uid != 0, "users: {blog_uid} and {shop_uid}");
    let worker = units::ready(container, "blog", 2).await?.remove(0);
    let socket = worker.replace("workerd@", "/run/imperium/workers/blog/").replace(".service", ".sock");
    container.run(&format!("test -S {socket}"))?;
    let shop = client(container, "shop", Protocol::Http1)?;
    for (question, answer) in [
        ("/read?path=/srv/shop/app.py", "done"),
        ("/read?path=/srv/blog/app.py", "PermissionError"),
        ("/read?path=/etc/imperium/vassals/blog.toml", "PermissionError"),
        ("/read?path=/etc/imperium/certificates/shop.example.key", "PermissionError"),
        ("/connect?path=/run/imperium/emperord.sock", "done"),
        (&format!("/connect?path={socket}"), "PermissionError"),
    ] {
        let actual = shop.get(question).await?.expect(200)?.text();
        ensure!(actual == answer, "{question} of shop: {actual}, not {answer}");
    }
    let refused =
        container.run("! setpriv --reuid shop --regid shop --groups imperium imperium status 2>&1")?;
    ensure!(refused.contains("neither root nor"), "{refused}");
    proven("a second app: each runs as its own user, and reaches neither files nor sockets of the other");
    Ok(())
}

async fn uid(container: &Container, app: &str) -> anyhow::Result<u64> {
    let who = client(container, app, Protocol::Http1)?.get("/who").await?.json()?;
    who["uid"].as_u64().context("find the user in what /who says")
}
