//! Clients that use the sites while something happens to the server.

use std::net::SocketAddr;

use anyhow::Context as _;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Ledger, Load};
use tests::wait::until;

use super::container::Container;

/// The number of keep-alive connections through TLS. The same number is opened anew for each request.
pub(crate) const CONNECTIONS: usize = 4;
/// The number of responses before, and again after, each operation under load.
pub(crate) const ANSWERS: u64 = 100;

/// A client of an app's site that trusts the certificate created by following the guide.
pub(crate) fn client(container: &Container, app: &str, protocol: Protocol) -> anyhow::Result<Client> {
    let port = if protocol == Protocol::Plain { 80 } else { 443 };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let certificate = container.root().join(format!("root/{app}.example.crt"));
    Client::new(&certificate, &format!("{app}.example"), address, protocol)
}

/// Waits until a site responds over HTTP, HTTPS and HTTP/2.
pub(crate) async fn answers(container: &Container, app: &str) -> anyhow::Result<()> {
    let mut last = None;
    let what = format!("{app} answers");
    let whole = until(&what, async || {
        last = ask_all(container, app).await.err();
        Ok(last.is_none().then_some(()))
    });
    whole.await.with_context(|| format!("{last:?}"))
}

/// Sends one request over each of them.
pub(crate) async fn ask_all(container: &Container, app: &str) -> anyhow::Result<()> {
    for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
        client(container, app, protocol)?.get("/who").await?.expect(200)?;
    }
    Ok(())
}

/// Starts requests to blog that continue until they are stopped.
pub(crate) fn load(container: &Container, kind: Kind) -> anyhow::Result<Load> {
    Ok(Load::start_mixed(&client(container, "blog", Protocol::Http1)?, CONNECTIONS, kind))
}

/// Runs a command under load, and returns the outcomes of all requests.
pub(crate) async fn under_load(container: &Container, kind: Kind, done: &str) -> anyhow::Result<Ledger> {
    let load = load(container, kind)?;
    load.flows(ANSWERS).await?;
    container.run_beside(done).await?;
    load.flows(ANSWERS).await?;
    load.finish().await
}

/// Like `under_load`, but fails if a request is lost. Returns the number of requests.
pub(crate) async fn without_loss(container: &Container, kind: Kind, done: &str) -> anyhow::Result<u64> {
    let ledger = under_load(container, kind, done).await?;
    ledger.all_right().with_context(|| format!("under load: {done}"))?;
    Ok(ledger.sent)
}
