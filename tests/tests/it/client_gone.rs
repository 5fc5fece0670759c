//! Clients that disconnect before they get a response.

use std::fs;

use anyhow::ensure;
use http::Method;
use tests::client::{Client, Protocol, empty, request};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::gate::Gate;

const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn a_request_whose_client_left_the_queue_is_never_started() -> anyhow::Result<()> {
    wsgi(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let held = Gate::get(&client, stack.root());
            held.begun(1).await?;
            let record = stack.root().join(format!("{protocol:?}"));
            let leaving = ask(&client, &format!("/gated?record={}", record.display()));
            stack.waiting("wsgi", 1).await?;
            drop(leaving);
            until("nothing waits any more", async || {
                Ok((stack.metric("imperium_queue", "wsgi").await? == 0.0).then_some(()))
            })
            .await?;
            held.pass().await?;
            client.get("/hello").await?.expect(200)?;
            ensure!(!record.exists(), "{protocol}: it was begun: {:?}", fs::read_to_string(record));
        }
        Ok(())
    })
    .await
}

/// A busy app can't notice it. Its response is dropped.
#[tokio::test]
async fn a_running_request_of_a_disconnected_client_is_finished() -> anyhow::Result<()> {
    wsgi(async |stack| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let (record, gate) =
                (stack.root().join(format!("{protocol:?}")), stack.root().join(format!("{protocol:?}.gate")));
            let leaving =
                ask(&client, &format!("/gated?record={}&gate={}", record.display(), gate.display()));
            until("it has begun", async || Ok(record.exists().then_some(()))).await?;
            drop(leaving);
            let next = Gate::get(&client, stack.root());
            stack.waiting("wsgi", 1).await?;
            ensure!(next.pids()?.is_empty(), "{protocol}: two at once in one thread");
            fs::write(gate, "")?;
            next.pass().await?;
        }
        ensure!(!stack.log().contains("ERROR"), "a client that left is called an error");
        Ok(())
    })
    .await
}

/// Sends a GET. Dropping the handle closes its connection.
fn ask(client: &Client, path: &str) -> AbortOnDropHandle<()> {
    let (client, request) = (client.clone(), request(Method::GET, path, empty()));
    AbortOnDropHandle::new(TaskTracker::new().spawn(async move {
        let _it_leaves = client.send(request).await;
    }))
}

async fn wsgi(test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| test(stack).await).await
}
