//! Requests that arrive before the first routing table.

use super::*;

#[tokio::test]
async fn a_request_that_arrives_before_the_first_routing_table_waits_for_it() {
    let (folder, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut shared = shared(folder.path(), &[]);
    let (tables, receiver) = watch::channel(Arc::new(Table::default()));
    shared.tables = receiver;
    let (_server, mut client) = connected(&shared, Transport::Plain).await;
    let request = b"GET /f/1.bin HTTP/1.1\r\nHost: blog.example\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let waits = async {
        while shared.first_table.waiting() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = waits => {}
        read = client.read_to_end(&mut answer) => panic!("{read:?}: {}", answer.escape_ascii()),
    }
    let app = routes::App {
        domains: vec!["blog.example".to_owned()],
        path: "/".to_owned(),
        ..with_files(files.path(), &[1])
    };
    tables.send_replace(Arc::new(Table::new(&[app], &Table::default(), &Metrics::new())));
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
}
