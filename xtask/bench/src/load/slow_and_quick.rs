//! A few slow requests among quick ones: do quick requests wait behind slow ones?

use std::time::{Duration, Instant};

use anyhow::Context as _;
use fastrand::Rng;
use futures_util::future::join_all;
use http::Method;
use tests::client::{Answer, Client, empty, request};
use tests::connection::Connection;

use super::Load;
use crate::stack::Stack;

/// As many as there are workers: a worker is free for each request, so one that waits was sent to the wrong
/// worker.
const CONNECTIONS: u64 = 4;
const ONE_IN: u8 = 10;

/// Sends the same requests to each stack for that long, and returns the latencies of the quick ones.
pub(crate) async fn run(stack: &Stack, lasting: Duration) -> anyhow::Result<Load> {
    let client = stack.client()?;
    let until = Instant::now() + lasting;
    let lines = join_all((0..CONNECTIONS).map(|number| ask(&client, number, until)));
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for line in lines.await {
        latencies.extend(line.latencies);
        failed += line.failed;
    }
    Load::of(latencies, failed, lasting).context("no quick request was answered")
}

#[derive(Default)]
struct Line {
    connection: Option<Connection>,
    latencies: Vec<u64>,
    failed: u64,
}

async fn ask(client: &Client, number: u64, until: Instant) -> Line {
    let mut random = Rng::with_seed(number);
    let mut line = Line::default();
    while Instant::now() < until {
        let slow = random.u8(..ONE_IN) == 0;
        let begun = Instant::now();
        match line.get(client, if slow { "/slow" } else { "/" }).await {
            Ok(_) if slow => {}
            Ok(_) => line.latencies.extend(u64::try_from(begun.elapsed().as_micros())),
            Err(_) => line.fail(),
        }
    }
    line
}

impl Line {
    async fn get(&mut self, client: &Client, path: &str) -> anyhow::Result<Answer> {
        if self.connection.as_ref().is_none_or(Connection::is_closed) {
            self.connection = Some(client.connect().await?);
        }
        let connection = self.connection.as_mut().context("a connection")?;
        let response = connection.send(request(Method::GET, path, empty())).await?;
        Answer::read(response).await?.expect(200)
    }

    fn fail(&mut self) {
        self.failed += 1;
        self.connection = None;
    }
}
