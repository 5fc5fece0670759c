//! Built-in pages, as clients see them.

use super::*;

/// Sends a request to a server with one app, `blog.example/a`, and returns the response.
async fn answer(mode: Mode, transport: Transport, request: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let domains = vec!["blog.example".to_owned(), "*.blog.example".to_owned()];
    let app =
        routes::App { name: "blog".to_owned(), domains, path: "/a".to_owned(), ..routes::App::default() };
    let mut shared = shared(folder.path(), &[app]);
    shared.mode = mode;
    let (server, mut client) = connected(&shared, transport).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    drop(server);
    answer
}

#[tokio::test]
async fn the_page_for_an_unknown_host_lists_the_sites_in_development_only() {
    let request =
        "GET / HTTP/1.1\r\nHost: shop.example:8000\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
    let page = answer(Mode::Development, Transport::Plain, request).await;
    assert!(page.starts_with("HTTP/1.1 404 Not Found\r\n"), "{page}");
    assert!(page.contains("<a href=\"http://blog.example:8000/a/\">blog.example/a</a>"), "{page}");
    assert!(page.contains("<li>*.blog.example/a</li>"), "{page}");
    let page = answer(Mode::Production, Transport::Plain, request).await;
    assert!(page.starts_with("HTTP/1.1 404 Not Found\r\n") && !page.contains("blog"), "{page}");
}

#[tokio::test]
async fn a_response_to_head_has_the_headers_of_the_page_and_no_body() {
    let [get, head] = ["GET", "HEAD"].map(|method| {
        format!("{method} / HTTP/1.1\r\nHost: shop.example\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
    });
    let length = |answer: &str| {
        let line = answer.lines().find(|it| it.starts_with("Content-Length: ")).unwrap();
        line["Content-Length: ".len()..].parse::<usize>().unwrap()
    };
    let get = answer(Mode::Production, Transport::Plain, &get).await;
    let head = answer(Mode::Production, Transport::Plain, &head).await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(length(&get), length(&head));
    assert_eq!(get.split_once("\r\n\r\n").unwrap().1.len(), length(&get));
}

#[tokio::test]
async fn plain_http_on_an_https_port_gets_a_page_with_the_url() {
    let request = "GET /x?y=1 HTTP/1.1\r\nHost: blog.example:8443\r\n\r\n";
    let page = answer(Mode::Production, Transport::Tls, request).await;
    assert!(page.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{page}");
    assert!(page.contains("\r\nConnection: close\r\n"), "{page}");
    assert!(
        page.contains("only accepts HTTPS") && page.contains("https://blog.example:8443/x?y=1\n"),
        "{page}"
    );
    // Without a host, no URL can be shown. What isn't HTTP at all gets a 400 too.
    let page = answer(Mode::Production, Transport::Tls, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(page.contains("only accepts HTTPS") && !page.contains("https://"), "{page}");
    let page = answer(Mode::Production, Transport::Tls, "HELO a.example\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{page}");
}
