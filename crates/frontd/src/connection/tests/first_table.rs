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

#[tokio::test]
async fn a_request_that_waits_while_its_app_fails_gets_the_reason_in_development() {
    let folder = tempfile::tempdir().unwrap();
    let app = |state: routes::app::State, failure: &str| routes::App {
        name: "blog".to_owned(),
        domains: vec!["*".to_owned()],
        path: "/".to_owned(),
        state: state.into(),
        queue_size: 10,
        queue_milliseconds: 60_000,
        failure: failure.to_owned(),
        ..routes::App::default()
    };
    for (mode, is_shown) in [(Mode::Development, true), (Mode::Production, false)] {
        let mut shared = shared(folder.path(), &[app(routes::app::State::Starting, "")]);
        shared.mode = mode;
        let starting = Arc::clone(&shared.tables.borrow());
        let (tables, receiver) = watch::channel(Arc::clone(&starting));
        shared.tables = receiver;
        let (_server, mut client) = connected(&shared, Transport::Plain).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\nConnection: close\r\n\r\n").await.unwrap();
        while starting.pools().all(|(_, stats)| stats.waiting == 0) {
            tokio::task::yield_now().await;
        }
        let failed = app(routes::app::State::Failed, "OSError: no database");
        tables.send_modify(|table| *table = Arc::new(Table::new(&[failed], table, &Metrics::new())));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert_eq!(answer.contains("OSError: no database"), is_shown, "{answer}");
    }
}
