//! Requests to a real hyper server behind the guard.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{HeadGuard, HeadLimits};
use crate::observe::metrics::Metrics;
use crate::visit::refusal::Refusal;

const BEFORE: &str = "GET /before HTTP/1.1\r\nHost: a\r\n\r\n";
const VICTIM: &str = "GET /victim HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// For one head.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const LIMITS: HeadLimits = HeadLimits { time: TIME_LIMIT, bytes: 64 * 1024 };

fn refusal() -> Refusal {
    Refusal::none(Metrics::new())
}

fn guard<IO>(io: IO) -> HeadGuard<IO> {
    HeadGuard::new(io, LIMITS, refusal())
}

/// Responds with `TARGET LENGTH-OF-BODY`, with 400 if the body can't be read, or with the guard's reason.
async fn echo(refusal: &Refusal, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::default();
    if let Some(violation) = refusal.of(&request) {
        *response.status_mut() = violation.status();
        *response.body_mut() = violation.name().into();
        return Ok(response);
    }
    let path = request.uri().to_string();
    match request.into_body().collect().await {
        Ok(body) => *response.body_mut() = format!("{path} {}", body.to_bytes().len()).into(),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

/// Returns the server's output for `input`, which arrives in reads of at most `split` bytes.
async fn answer(input: &[u8], split: usize) -> String {
    let (client, server) = duplex(split);
    let refusal = refusal();
    let guarded = HeadGuard::new(server, LIMITS, refusal.clone());
    let mut http = hyper::server::conn::http1::Builder::new();
    http.header_read_timeout(None).max_header_size(LIMITS.bytes * 3).auto_date_header(false);
    let serve = http.serve_connection(TokioIo::new(guarded), service_fn(|request| echo(&refusal, request)));
    let (mut reader, mut writer) = tokio::io::split(client);
    let write = async {
        // The server may close before it has read everything.
        let _ = writer.write_all(input).await;
    };
    let read = async {
        let mut output = Vec::new();
        reader.read_to_end(&mut output).await.unwrap();
        String::from_utf8(output).unwrap()
    };
    let (output, ..) = tokio::join!(read, write, serve);
    output
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.match_indices("HTTP/1.1 ").map(|(at, found)| &answer[at + found.len()..][..3]).collect()
}

/// Asserts that `request` gets `status` in its turn, and that the connection closes without serving what is
/// pipelined after it.
#[track_caller]
fn check_refused(name: &str, request: &str, status: &str) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let input = [BEFORE, request, VICTIM].concat();
    for split in [1, 2, 7, 64 * 1024] {
        let answer = runtime.block_on(answer(input.as_bytes(), split));
        assert_eq!(statuses(&answer), ["200", status], "{name}, reads of {split}: {answer}");
        assert!(answer.contains("/before 0"), "{name}, reads of {split}: {answer}");
        assert!(!answer.contains("/victim"), "{name}, reads of {split}: {answer}");
    }
}

/// Asserts that `request` is served with a body of `length` bytes, and that the next one is served too.
#[track_caller]
fn check_served(name: &str, request: &str, length: usize) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let input = [BEFORE, request, VICTIM].concat();
    for split in [1, 2, 7, 64 * 1024] {
        let answer = runtime.block_on(answer(input.as_bytes(), split));
        assert_eq!(statuses(&answer), ["200"; 3], "{name}, reads of {split}: {answer}");
        assert!(answer.contains(&format!("/x {length}")), "{name}, reads of {split}: {answer}");
        assert!(answer.contains("/victim 0"), "{name}, reads of {split}: {answer}");
    }
}

#[test]
fn ambiguous_heads_get_400_and_close_the_connection() {
    for (name, request) in [
        ("request line ends in LF", "GET /x HTTP/1.1\nHost: a\r\n\r\n"),
        ("field line ends in LF", "GET /x HTTP/1.1\r\nHost: a\nA: b\r\n\r\n"),
        ("last field line ends in LF", "GET /x HTTP/1.1\r\nHost: a\n\r\n"),
        ("head ends in LF", "GET /x HTTP/1.1\r\nHost: a\r\n\n"),
        ("all lines end in LF", "GET /x HTTP/1.1\nHost: a\n\n"),
        ("LF before the request line", "\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("bare CR in a request line", "GET /x\rHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("bare CR before a request line", "\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("bare CR in a name", "GET /x HTTP/1.1\r\nHo\rst: a\r\n\r\n"),
        ("bare CR in a value", "GET /x HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
        ("CR CR LF", "GET /x HTTP/1.1\r\nHost: a\r\r\n\r\n"),
        ("CR CR LF at the end", "GET /x HTTP/1.1\r\nHost: a\r\n\r\r\n"),
        ("obs-fold", "GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n"),
        ("obs-fold with a tab", "GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\n\tc\r\n\r\n"),
        ("folded first field", "GET /x HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("folded Content-Length", "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 5\r\n\r\nabcde"),
        (
            "two Content-Lengths",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        ),
        (
            "equal Content-Lengths",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length:5\r\n\r\nabcde",
        ),
        (
            "zero Content-Lengths",
            "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        ),
        ("a list as Content-Length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"),
        ("a sign before Content-Length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"),
        ("a negative Content-Length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nabcde"),
        ("a hexadecimal Content-Length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde"),
        ("an empty Content-Length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nabcde"),
        (
            "Content-Length over 64 bits",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        ),
        (
            "Content-Length, then Transfer-Encoding",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "Transfer-Encoding, then Content-Length",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ),
        (
            "Transfer-Encoding twice",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked, identity",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        ("an empty Transfer-Encoding", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
        (
            "vertical tab before chunked",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        ),
        ("chunked in HTTP/1.0", "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("space before the colon", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde"),
        (
            "tab before the colon",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("no colon", "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length\r\n\r\n"),
        ("no name", "GET /x HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
        ("two Hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("equal Hosts", "GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\nhOST:a\r\n\r\n"),
        ("NUL in the path", "GET /\0x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("NUL in the method", "G\0T /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("NUL in a name", "GET /x HTTP/1.1\r\nHost: a\r\nA\0: b\r\n\r\n"),
        ("NUL in a value", "GET /x HTTP/1.1\r\nHost: a\r\nA: b\0\r\n\r\n"),
        ("no version", "GET /x\r\nHost: a\r\n\r\n"),
        ("two spaces in the request line", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("tabs in the request line", "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a space in the path", "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a fragment", "DELETE /x#y HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a tab in the query", "GET /x?a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("DEL in the path", "GET /x\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("what the guard itself says", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an asterisk to HEAD", "HEAD * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a path without a slash", "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a version in lower case", "GET /x http/1.1\r\nHost: a\r\n\r\n"),
        ("a version of two digits", "GET /x HTTP/1.10\r\nHost: a\r\n\r\n"),
        ("not HTTP at all", "\x16\x03\x01 hello\r\n\r\n"),
    ] {
        check_refused(name, request, "400");
    }
}

#[test]
fn unsupported_features_have_their_own_statuses() {
    for (name, status, request) in [
        (
            "gzip, chunked",
            "501",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        ("gzip", "501", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
        ("identity", "501", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
        ("xchunked", "501", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("version", "505", "GET /x HTTP/3.7\r\nHost: a\r\n\r\n"),
        ("HTTP/2 on a plain port", "505", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        check_refused(name, request, status);
    }
}

#[test]
fn malformed_chunked_bodies_fail_and_close_the_connection() {
    for (name, body) in [
        ("size line ends in LF", "3\nabc\r\n0\r\n\r\n"),
        ("last size line ends in LF", "3\r\nabc\r\n0\n\r\n"),
        ("extension ends in LF", "3;a=b\nabc\r\n0\r\n\r\n"),
        ("last extension ends in LF", "3\r\nabc\r\n0;a=b\n\r\n"),
        ("bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("data ends in LF", "3\r\nabc\n0\r\n\r\n"),
        ("data longer than said", "3\r\nabcd\r\n0\r\n\r\n"),
        ("data shorter than said", "3\r\nab\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("a sign before the size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("0x before the size", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("an underscore in the size", "1_0\r\nabc\r\n0\r\n\r\n"),
        ("a size over 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("trailer ends in LF", "0\r\nA: b\n\r\n"),
        ("second trailer ends in LF", "0\r\nA: b\r\nC: d\n\r\n"),
        ("trailers end in LF", "0\r\nA: b\r\n\n"),
        ("bare CR ends the body", "0\r\n\rX"),
    ] {
        let request = format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        check_refused(name, &request, "400");
    }
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let much = "a".repeat(20 * 1024);
    for body in [format!("3;{much}\r\nabc\r\n0\r\n\r\n"), format!("0\r\nA: {much}\r\n\r\n")] {
        let request = format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        check_refused("20 KiB", &request, "400");
    }
}

#[test]
fn heads_are_bounded() {
    let long = "a".repeat(100 * 1024);
    let many = "A: b\r\n".repeat(100);
    check_served("100 fields", &format!("GET /x HTTP/1.1\r\n{many}\r\n"), 0);
    check_refused("101 fields", &format!("GET /x HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431");
    check_refused("100 KiB header", &format!("GET /x HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"), "431");
    check_refused("100 KiB path", &format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "431");
    check_refused("100 KiB without an end", &long, "431");
    // Exactly as long as `limits.header` allows.
    let request = |over: usize| {
        let rest = "GET /x HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
        format!("GET /x HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(LIMITS.bytes - rest + over))
    };
    check_served("as long as allowed", &request(0), 0);
    check_refused("one byte longer", &request(1), "431");
    check_refused(
        "a long target",
        &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "<".repeat(30_000)),
        "414",
    );
}

#[test]
fn unusual_targets_are_encoded_and_their_surroundings_are_unchanged() {
    let before = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n<1>";
    let request = "POST /<>?\" HTTP/1.9\r\nHost: a\r\nContent-Length: 3\r\n\r\n<2>\r\n\r\nGET /`?` HTTP/1.1\r\nHost: a\r\n\r\n";
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for split in [1, 2, 7, 64 * 1024] {
        let answer = runtime.block_on(answer([before, request, VICTIM].concat().as_bytes(), split));
        assert_eq!(statuses(&answer), ["200"; 4], "reads of {split}: {answer}");
        for expected in ["/1 3", "/%3C%3E?%22 3", "/%60?` 0", "/victim 0"] {
            assert!(answer.contains(expected), "{expected}, reads of {split}: {answer}");
        }
    }
}

#[tokio::test]
async fn violations_are_counted_and_heads_have_a_time_limit() {
    let metrics = Metrics::new();
    let (mut client, server) = duplex(256);
    let limits = HeadLimits { time: Duration::from_millis(1), ..LIMITS };
    let refusal = Refusal::none(std::sync::Arc::clone(&metrics));
    let mut guarded = HeadGuard::new(server, limits, refusal);
    client.write_all(b"HEAD / HTTP/1.1\r\n").await.unwrap();
    let mut read = vec![0; super::REFUSED_HEAD.len()];
    guarded.read_exact(&mut read).await.unwrap();
    assert_eq!(read, super::REFUSED_HEAD);
    let text = metrics.render([]);
    assert!(text.contains("imperium_refused_total{reason=\"head_timeout\"} 1"), "{text}");
}

#[test]
fn plain_requests_pass() {
    let long = "a".repeat(2000);
    for (name, request, length) in [
        ("no body", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ("a version above 1.1", "GET /x HTTP/1.7\r\nHost: a\r\n\r\n", 0),
        (
            "many empty lines before",
            &format!("{}GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(40_000)),
            0,
        ),
        ("empty lines before", "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ("long field", &format!("GET /x HTTP/1.1\r\nHost: a\r\nCookie: {long}\r\n\r\n"), 0),
        (
            "names alike",
            "GET /x HTTP/1.1\r\nHost: a\r\nHosts: b\r\nContent-Length-X: z\r\nTE: trailers\r\nT: x\r\n\r\n",
            0,
        ),
        ("no space after the colon", "GET /x HTTP/1.1\r\nHost:a\r\nA:\r\n\r\n", 0),
        ("Content-Length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\n\0\r", 5),
        ("Content-Length 0", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0),
        (
            "spaced Content-Length",
            "POST /x HTTP/1.1\r\nHost: a\r\ncontent-length: \t 005 \r\n\r\n\n\n\n\n\n",
            5,
        ),
        (
            "a body that looks like a head",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nGET / x\nH:\n\n",
            12,
        ),
        (
            "chunked",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n00A\r\n0123456789\r\n0\r\n\r\n",
            13,
        ),
        ("Chunked", "POST /x HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING:\t Chunked \r\n\r\n0\r\n\r\n", 0),
        (
            "extensions",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0 ;z\r\n\r\n",
            3,
        ),
        (
            "trailers",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\n",
            0,
        ),
    ] {
        check_served(name, request, length);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_complete_within_its_time_limit() {
    for (received, ends) in [
        ("", false),
        ("\r\n", false),
        ("G", true),
        ("GET / HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", true),
        ("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nbody", false),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody", false),
    ] {
        let (mut client, server) = duplex(256);
        let mut guarded = guard(server);
        client.write_all(received.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let all = async {
            while !read.ends_with(super::REFUSED) {
                read.push(guarded.read_u8().await.unwrap());
            }
        };
        let refused = tokio::time::timeout(TIME_LIMIT * 2, all).await.is_ok();
        assert_eq!(refused, ends, "{received:?}");
    }
}

/// Sending single bytes doesn't extend the limit.
#[tokio::test(start_paused = true)]
async fn each_head_has_its_own_time_limit() {
    let (mut client, server) = duplex(256);
    let mut guarded = guard(server);
    let send = async {
        for byte in [&b"GET / HTTP/1.1\r\n\r\nGE"[..], b"T / HTTP/1.1\r\n\r\nG", b"E", b"T", b" "] {
            client.write_all(byte).await.unwrap();
            tokio::time::sleep(TIME_LIMIT * 2 / 3).await;
        }
    };
    let receive = async {
        let mut read = Vec::new();
        while !read.ends_with(super::REFUSED) {
            read.push(guarded.read_u8().await.unwrap());
        }
        read
    };
    let (read, ()) = tokio::join!(receive, send);
    let served = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    assert_eq!(read, [&served[..], super::REFUSED].concat());
}

#[tokio::test]
async fn a_refusal_is_complete_with_small_reads_and_nothing_follows_it() {
    for (sent, read_first, refused) in [
        (&b"GET / HTTP/1.1\n\nmore"[..], &b""[..], super::REFUSED),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            super::POISON,
        ),
    ] {
        let (mut client, server) = duplex(256);
        let mut guarded = guard(server);
        client.write_all(sent).await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(refused) {
            read.push(guarded.read_u8().await.unwrap());
        }
        assert_eq!(read, [read_first, refused].concat());
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        assert!(guarded.read_u8().await.is_err());
    }
}
