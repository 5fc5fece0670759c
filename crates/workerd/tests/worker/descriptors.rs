//! A worker whose app has used up all file descriptors.

use std::path::Path;

use crate::front::{Front, get};
use crate::process::{App, within};

const APP: &str = r#"
import os, resource

held = []

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exhaust":
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    elif path == "/release":
        while held:
            os.close(held.pop())
    start_response("200 OK", [])
    return [str(len(held)).encode()]
"#;

/// Retries like frontd if the connection isn't accepted.
async fn open(socket: &Path) -> Front {
    loop {
        if let Ok(front) = Front::try_open(socket, 2).await {
            return front;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_descriptors_a_worker_neither_spins_nor_loses_requests() {
    let mut worker = App::new(APP).ready().await;
    let mut front = worker.front(1).await;
    let held = within(front.fetch(get("/exhaust"))).await.body;
    assert_ne!(held, "0");
    let socket = worker.spec.socket.clone();
    let served = async {
        worker.logs("cannot accept connections").await;
        assert_eq!(within(front.fetch(get("/"))).await.body, held, "existing connections are served");
        assert_eq!(within(front.fetch(get("/release"))).await.body, "0");
    };
    let (mut second, ()) = tokio::join!(within(open(Path::new(&socket))), served);
    assert_eq!(within(second.fetch(get("/"))).await.body, "0");
    let line = worker.logs("accepts connections again").await;
    let failed =
        line.split("failed=").nth(1).and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    // The pauses between attempts double up to a second.
    assert!(failed.is_some_and(|it| (1..100).contains(&it)), "{line}");
}
