//! What a client is told before its body is read.

use std::net::Ipv4Addr;

use api::routes::{self, app::State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::client::Transport;
use crate::connection;
use crate::shard::testing;

/// What is answered to a head alone, up to the end of the first answer's head.
async fn answer(app: routes::App, head: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let domains = vec!["blog.example".to_owned()];
    let app = routes::App { name: "blog".to_owned(), domains, path: "/".to_owned(), ..app };
    let shard = testing::shard(&Arc::new(testing::shared(folder.path(), &[app])));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, peer) = listener.accept().await.unwrap();
    let serving = connection::serve(Arc::clone(&shard), near, peer, Transport::Plain);
    drop(shard.tasks().spawn(serving));
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut part = [0; 4096];
        let read = client.read(&mut part).await.unwrap();
        assert!(read > 0, "closed without an answer: {answer:?}");
        answer += std::str::from_utf8(&part[..read]).unwrap();
    }
    answer.lines().next().unwrap().to_owned()
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: blog.example\r\nContent-Length: 500000\r\n\r\n";
const ASKING: &str =
    "POST / HTTP/1.1\r\nHost: blog.example\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_refused_before_the_body_comes() {
    let failed = routes::App { state: State::Failed.into(), body_limit: 1 << 30, ..routes::App::default() };
    let full = routes::App { queue_size: 0, body_limit: 1 << 30, ..routes::App::default() };
    let small = routes::App { queue_size: 10, body_limit: 1000, ..routes::App::default() };
    for head in [UPLOAD, ASKING] {
        let unavailable = "HTTP/1.1 503 Service Unavailable";
        assert_eq!(answer(failed.clone(), head).await, unavailable);
        assert_eq!(answer(full.clone(), head).await, unavailable);
        assert_eq!(answer(small.clone(), head).await, "HTTP/1.1 413 Payload Too Large");
    }
}

#[tokio::test]
async fn who_is_admitted_is_told_to_continue() {
    let starting = routes::App { queue_size: 10, body_limit: 1 << 30, ..routes::App::default() };
    assert_eq!(answer(starting, ASKING).await, "HTTP/1.1 100 Continue");
}
