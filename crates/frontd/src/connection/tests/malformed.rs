//! Malformed requests over HTTP/2 (RFC 9113, section 8.1.1): those that h2 resets, and those that it passes
//! on.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::resets::{OPENING, serving, starting};
use super::with_files;

/// Indexed `:status` fields of HPACK's static table.
const BAD_REQUEST: u8 = 0x8c;
const NOT_FOUND: u8 = 0x8d;

/// A HEADERS frame for `GET /` with these fields as literals.
fn get(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = b"\x82\x87\x84".to_vec();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).unwrap();
    [[0, 0, length, 1, 5, 0, 0, 0, 1].as_slice(), &block].concat()
}

/// The first byte of the response's header block.
async fn status(fields: &[(&str, &str)]) -> u8 {
    let (_folder, _server, mut stream) = serving(starting()).await;
    stream.write_all(&[OPENING, &get(fields)].concat()).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            return payload[0];
        }
    }
}

#[tokio::test]
async fn padded_values_and_several_hosts_are_bad_requests() {
    let other = (":authority", "other.example");
    assert_eq!(status(&[other]).await, NOT_FOUND);
    assert_eq!(status(&[other, ("x-inner", "a b"), ("x-empty", "")]).await, NOT_FOUND);
    for value in [" a", "a ", "\ta", "a\t", " "] {
        assert_eq!(status(&[other, ("x-padded", value)]).await, BAD_REQUEST, "{value:?}");
    }
    let host = ("host", "other.example");
    assert_eq!(status(&[host]).await, NOT_FOUND);
    assert_eq!(status(&[host, host]).await, BAD_REQUEST);
    assert_eq!(status(&[host, ("host", "blog.example")]).await, BAD_REQUEST);
}

/// RFC 9113, section 8.3.1.
#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_a_bad_request() {
    let authority = (":authority", "other.example");
    for same in ["other.example", "OTHER.example", "other.example.", "other.example:443"] {
        assert_eq!(status(&[authority, ("host", same)]).await, NOT_FOUND, "{same}");
    }
    for differs in ["blog.example", "other.example:8443", "a.other.example", "", "a b"] {
        assert_eq!(status(&[authority, ("host", differs)]).await, BAD_REQUEST, "{differs}");
    }
    let host = ("host", "other.example");
    assert_eq!(status(&[authority, host, host]).await, BAD_REQUEST);

    let (_folder, server, mut stream) = serving(starting()).await;
    let request = get(&[authority, ("host", "blog.example")]);
    stream.write_all(&[OPENING, &request].concat()).await.unwrap();
    while !server.metrics().render([]).contains("imperium_refused_total{reason=\"host_mismatch\"} 1") {
        tokio::task::yield_now().await;
    }
}

/// How the server reacts to a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset,
    /// The whole connection is closed.
    GoAway,
}

/// Sends a GET of this path. Returns the outcome and the metrics.
async fn of_path(path: &[u8]) -> (Outcome, String) {
    let files = tempfile::tempdir().unwrap();
    let (_folder, server, mut stream) = serving(with_files(files.path(), &[1])).await;
    let length = u8::try_from(path.len()).unwrap();
    let block = [b"\x82\x87\x01\x0cblog.example\x04", [length].as_slice(), path].concat();
    let length = u8::try_from(block.len()).unwrap();
    let frame = [&[0, 0, length, 1, 5, 0, 0, 0, 1], block.as_slice()].concat();
    stream.write_all(&[OPENING, &frame].concat()).await.unwrap();
    let outcome = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        match (head[3], payload.as_slice()) {
            (1, [0x88, ..]) => break Outcome::Status(200),
            (1, [NOT_FOUND, ..]) => break Outcome::Status(404),
            (3, [0, 0, 0, 1]) => break Outcome::Reset,
            (7, _) => break Outcome::GoAway,
            (1 | 3, other) => panic!("{other:?}"),
            _ => {}
        }
    };
    drop(stream);
    server.tasks().close();
    server.tasks().wait().await;
    (outcome, server.metrics().render([]))
}

/// h2 parses the path with the `http` crate, which accepts fewer characters than frontd accepts over HTTP/1.1
/// and drops the fragment. Neither hyper nor the service sees such a request or its fragment: see
/// docs/reference/errors.md.
#[tokio::test]
async fn h2_resets_paths_with_some_raw_characters_and_drops_fragments() {
    let counted = |reason: &str| format!("imperium_refused_total{{reason=\"{reason}\"}} 1\n");
    for (path, expected, reason) in [
        (&b"/f/1.bin"[..], Outcome::Status(200), None),
        (b"/f/1.bin?{|}^`[]\\", Outcome::Status(200), None),
        (b"/f/1.bin?\xc3\xa4", Outcome::Status(200), None),
        (b"/f/1.bin#fragment", Outcome::Status(200), None),
        (b"/f/1.bin?a#b", Outcome::Status(200), None),
        (b"/f/{|}^[]\"\\", Outcome::Status(404), None),
        (b"/f/\xc3\xa4", Outcome::Status(404), None),
        (b"/f/<a>", Outcome::Reset, Some("http2_malformed")),
        (b"/f/`", Outcome::Reset, Some("http2_malformed")),
        (b"/f/1.bin?<a>", Outcome::Reset, Some("http2_malformed")),
        (b"/f/1.bin?\"", Outcome::Reset, Some("http2_malformed")),
        (b"/f/a b", Outcome::Reset, Some("http2_malformed")),
        (b"/f/a\x7f", Outcome::Reset, Some("http2_malformed")),
        (b"f", Outcome::Reset, Some("http2_malformed")),
        (b"/f/\xe4", Outcome::GoAway, Some("http2_unreadable")),
    ] {
        let (outcome, metrics) = of_path(path).await;
        assert_eq!(outcome, expected, "{}", path.escape_ascii());
        for known in ["http2_malformed", "http2_unreadable"] {
            let is_counted = metrics.contains(&counted(known));
            assert_eq!(is_counted, reason == Some(known), "{}: {metrics}", path.escape_ascii());
        }
    }
}
