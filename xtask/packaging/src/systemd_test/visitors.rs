//! Those who use the sites while something is done to the server.

use std::net::SocketAddr;

use anyhow::Context as _;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Ledger, Load};
use tests::wait::until;

use super::container::Container;

/// Keep-alive connections through TLS; as many more are opened anew for each request.
pub(crate) const CONNECTIONS: usize = 4;
/// Answers before, and again after, each thing that is done under load.
pub(crate) const ANSWERS: u64 = 100;

/// A client of an app's site, that trusts the certificate which the guide had made for it.
pub(crate) fn client(container: &Container, app: &str, protocol: Protocol) -> anyhow::Result<Client> {
    let port = if protocol == Protocol::Plain { 80 } else { 443 };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let certificate = container.root().join(format!("root/{app}.example.crt"));
    Client::new(&certificate, &format!("{app}.example"), address, protocol)
}

/// Waits until a site answers over HTTP, HTTPS and HTTP/2.
pub(crate) async fn answers(container: &Container, app: &str) -> anyhow::Result<()> {
    let mut last = None;
    let what = format!("{app} answers");
    let whole = until(&what, async || {
        last = ask_all(container, app).await.err();
        Ok(last.is_none().then_some(()))
    });
    whole.await.with_context(|| format!("{last:?}"))
}

/// Asks once over each of them.
pub(crate) async fn ask_all(container: &Container, app: &str) -> anyhow::Result<()> {
    for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
        client(container, app, protocol)?.get("/who").await?.expect(200)?;
    }
    Ok(())
}

/// Requests to blog that go on until they are told to end.
pub(crate) fn load(container: &Container, kind: Kind) -> anyhow::Result<Load> {
    Ok(Load::start_mixed(&client(container, "blog", Protocol::Http1)?, CONNECTIONS, kind))
}

/// Does something while requests to blog are under way; returns what became of them.
pub(crate) async fn under_load(container: &Container, kind: Kind, done: &str) -> anyhow::Result<Ledger> {
    let load = load(container, kind)?;
    load.flows(ANSWERS).await?;
    container.run_beside(done).await?;
    load.flows(ANSWERS).await?;
    load.finish().await
}

/// As `under_load`; none may be lost. Returns how many there were.
pub(crate) async fn without_loss(container: &Container, kind: Kind, done: &str) -> anyhow::Result<u64> {
    let ledger = under_load(container, kind, done).await?;
    ledger.all_right().with_context(|| format!("under load: {done}"))?;
    Ok(ledger.sent)
}
