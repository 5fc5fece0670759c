//! Request bodies that a worker gets while they arrive.

use std::future::poll_fn;

use api::runner::{Response, Welcome};

use super::worker::{Stage, read_all, read_until, soon};
use super::*;

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: blog.example\r\nTransfer-Encoding: chunked\r\n\r\n";
const TEN: &str = "POST / HTTP/1.1\r\nHost: blog.example\r\nContent-Length: 10\r\n\r\n";

#[tokio::test]
async fn a_request_is_sent_as_soon_as_its_head_is_here() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(&format!("{TEN}12345")).await;
    let request = worker.request().await;
    assert_eq!((&*request.body, request.body_length, request.streams_body), (&b"12345"[..], 10, true));
    let length = request.headers.iter().find(|it| it.name == "content-length").unwrap();
    assert_eq!(length.value, "10");
    worker.begun(request.id);
    let mut call = worker.need_body(request.id, 5).await;
    client.write_all(b"678").await.unwrap();
    assert_eq!(call.read(3).await.unwrap(), b"678");
    client.write_all(b"90").await.unwrap();
    assert_eq!(call.read(2).await.unwrap(), b"90");
    assert_eq!(call.chunk().await.unwrap(), None, "the end of the body");
    worker.answer(request.id, "thanks");
    assert!(read_until(&mut client, "thanks").await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(stage.pool().uploads(), 0);
}

#[tokio::test]
async fn a_small_body_that_is_here_is_sent_whole() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    for framed in [TEN.to_owned() + "1234567890", CHUNKED.to_owned() + "a\r\n1234567890\r\n0\r\n\r\n"] {
        let mut client = stage.client(&framed).await;
        let request = worker.request().await;
        assert_eq!(
            (&*request.body, request.body_length, request.streams_body),
            (&b"1234567890"[..], 0, false)
        );
        worker.answer(request.id, "thanks");
        read_until(&mut client, "thanks").await;
    }
}

#[tokio::test]
async fn a_body_and_its_response_are_streamed_at_the_same_time() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(CHUNKED).await;
    let request = worker.request().await;
    assert_eq!((&*request.body, request.body_length, request.streams_body), (&b""[..], 0, true));
    assert!(request.headers.iter().all(|it| it.name != "content-length" && it.name != "transfer-encoding"));
    let mut call = worker.need_body(request.id, 0).await;
    worker.begin_response(Response { id: request.id, ..Response::default() });
    read_until(&mut client, "\r\n\r\n").await;
    for (sent, part) in [("3\r\nabc\r\n", "abc"), ("2\r\nde\r\n", "de"), ("1\r\nf\r\n", "f")] {
        client.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(call.read(part.len()).await.unwrap(), part.as_bytes());
        call.send(part).await;
        read_until(&mut client, sent).await;
    }
    client.write_all(b"0\r\nignored: trailer\r\n\r\n").await.unwrap();
    assert_eq!(call.chunk().await.unwrap(), None);
    drop(call);
    worker.done(request.id);
    read_until(&mut client, "0\r\n\r\n").await;
}

/// The same over HTTP/2, and the response begins before the app reads: the body follows on the response's call.
#[tokio::test]
async fn a_response_may_begin_before_the_body_is_read() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client_h2().await;
    let request = Request::builder().method(Method::POST).uri("https://blog.example/");
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let request = worker.request().await;
    worker.begin_response(Response { id: request.id, ..Response::default() });
    let mut call = worker.call(request.id).await;
    let mut received = soon("the response", response).await.unwrap().into_body();
    for part in ["abc", "de", "f"] {
        stream.send_data(part.into(), false).unwrap();
        assert_eq!(call.read(part.len()).await.unwrap(), part.as_bytes());
        call.send(part).await;
        assert_eq!(soon("an echo", received.data()).await.unwrap().unwrap(), part);
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(call.chunk().await.unwrap(), None);
    drop(call);
    while let Some(rest) = soon("the end", received.data()).await {
        assert_eq!(rest.unwrap(), "");
    }
}

/// Those that wait for a worker may fill their own windows, but not that of their connection.
#[tokio::test]
async fn uploads_that_are_not_read_hold_up_no_other_of_their_connection() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.worker(Welcome { capacity: 1, streams_bodies: true, ..Welcome::default() }).await;
    let mut client = stage.client_h2().await;
    let mut post = || {
        let request = Request::builder().method(Method::POST).uri("https://blog.example/");
        client.send_request(request.body(()).unwrap(), false).unwrap()
    };
    let body = Bytes::from(vec![b'x'; 2 << 20]);
    let (_response, mut read) = post();
    let request = worker.request().await;
    worker.begun(request.id);
    let mut unread = Vec::new();
    for _ in 0..2 {
        let (_response, mut waiting) = post();
        // It sends as much as it may.
        waiting.reserve_capacity(body.len());
        while let Ok(granted) =
            tokio::time::timeout(Duration::from_millis(300), poll_fn(|it| waiting.poll_capacity(it))).await
        {
            waiting.send_data(body.slice(..granted.unwrap().unwrap()), false).unwrap();
        }
        unread.push(waiting);
    }
    read.send_data(body.clone(), true).unwrap();
    let mut call = worker.need_body(request.id, request.body.len() as u64).await;
    assert!(call.read(body.len() - request.body.len()).await.unwrap() == body[request.body.len()..]);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_when_the_body_is_needed() {
    for begin_first in [false, true] {
        let mut stage = Stage::new(routes::App::default()).await;
        let mut worker = stage.streaming_worker().await;
        let mut client = stage.client(&TEN.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")).await;
        let request = worker.request().await;
        assert_eq!((&*request.body, request.streams_body), (&b""[..], true));
        let nothing = tokio::time::timeout(Duration::from_millis(50), client.readable()).await;
        assert!(nothing.is_err(), "the client is told something too early");
        let mut call = match begin_first {
            true => {
                worker.begin_response(Response { id: request.id, ..Response::default() });
                worker.call(request.id).await
            }
            false => worker.need_body(request.id, 0).await,
        };
        read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
        client.write_all(b"1234567890").await.unwrap();
        assert_eq!(call.read(11).await.unwrap(), b"1234567890");
    }
}

#[tokio::test]
async fn a_request_that_was_not_started_goes_to_another_worker_with_all_of_its_body() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut first = stage.streaming_worker().await;
    let mut client = stage.client(&format!("{TEN}123")).await;
    let request = first.request().await;
    assert_eq!(&*request.body, b"123");
    client.write_all(b"45").await.unwrap();
    let mut second = stage.streaming_worker().await;
    first.hand_back(request.id);
    let request = second.request().await;
    // What has arrived meanwhile is sent along.
    let sent = request.body.len();
    assert_eq!(&*request.body, &b"12345"[..sent.clamp(3, 5)]);
    let mut call = second.need_body(request.id, sent as u64).await;
    client.write_all(b"67890").await.unwrap();
    assert_eq!(call.read(usize::MAX).await.unwrap(), &b"1234567890"[sent..]);
}

#[tokio::test]
async fn a_worker_that_dies_before_it_begins_loses_nothing_of_the_body() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut first = stage.streaming_worker().await;
    let mut client = stage.client(&format!("{TEN}123")).await;
    assert_eq!(&*first.request().await.body, b"123");
    let mut second = stage.streaming_worker().await;
    first.die();
    let request = second.request().await;
    assert_eq!(&*request.body, b"123");
    let mut call = second.need_body(request.id, 3).await;
    client.write_all(b"4567890").await.unwrap();
    assert_eq!(call.read(8).await.unwrap(), b"4567890");
    second.answer(request.id, "thanks");
    read_until(&mut client, "thanks").await;
}

#[tokio::test]
async fn a_request_that_had_begun_is_not_repeated() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut first = stage.streaming_worker().await;
    let mut client = stage.client(&format!("{TEN}123")).await;
    let request = first.request().await;
    let _call = first.need_body(request.id, 3).await;
    let _second = stage.streaming_worker().await;
    first.die();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 502"));
}

#[tokio::test]
async fn a_worker_of_another_kind_gets_the_complete_body() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut old = stage.worker(Welcome { capacity: 1, ..Welcome::default() }).await;
    let mut new = stage.streaming_worker().await;
    let mut client = stage.client(&format!("{TEN}123")).await;
    // The old one comes first, and takes only complete bodies.
    while stage.pool().uploads() == 0 {
        tokio::task::yield_now().await;
    }
    client.write_all(b"4567890").await.unwrap();
    let request = old.request().await;
    assert_eq!((&*request.body, request.streams_body), (&b"1234567890"[..], false));
    assert_eq!(stage.pool().uploads(), 0);
    // It is busy now.
    let _other = stage.client(&format!("{TEN}123")).await;
    let second = new.request().await;
    assert_eq!((&*second.body, second.streams_body), (&b"123"[..], true));
    old.answer(request.id, "thanks");
    read_until(&mut client, "thanks").await;
}

#[tokio::test]
async fn a_safe_method_is_sent_with_its_complete_body() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(&TEN.replace("POST", "GET")).await;
    client.write_all(b"1234567890").await.unwrap();
    let request = worker.request().await;
    assert_eq!((&*request.body, request.streams_body), (&b"1234567890"[..], false));
}

#[tokio::test]
async fn a_response_may_begin_before_a_complete_body_is_read() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(&TEN.replace("POST", "GET").replace("10", "100000")).await;
    client.write_all(&[b'x'; 100_000]).await.unwrap();
    let request = worker.request().await;
    assert_eq!((request.body.len(), request.body_length, request.streams_body), (0, 100_000, false));
    worker.begin_response(Response { id: request.id, ..Response::default() });
    let mut call = worker.call(request.id).await;
    assert_eq!(call.read(100_001).await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_body_that_becomes_too_large_is_aborted() {
    for has_begun in [false, true] {
        let mut stage = Stage::new(routes::App { body_limit: 1000, ..routes::App::default() }).await;
        let mut worker = stage.streaming_worker().await;
        let mut client = stage.client(CHUNKED).await;
        let request = worker.request().await;
        let mut call = worker.need_body(request.id, 0).await;
        if has_begun {
            worker.begin_response(Response { id: request.id, ..Response::default() });
            read_until(&mut client, "\r\n\r\n").await;
        }
        let piece = format!("3e8\r\n{}\r\n", "x".repeat(1000));
        client.write_all(piece.as_bytes()).await.unwrap();
        assert_eq!(call.read(1000).await.unwrap().len(), 1000);
        client.write_all(b"1\r\nx\r\n").await.unwrap();
        assert!(call.chunk().await.is_err(), "the app must not take the part for the whole");
        worker.cancelled(request.id).await;
        if has_begun {
            assert!(!read_all(&mut client).await.ends_with("0\r\n\r\n"), "the response looks complete");
        } else {
            assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 413"));
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_aborted() {
    let short = |config: &mut FrontdConfig| config.limits.body_timeout = Duration::from_millis(200);
    let mut stage = Stage::with(routes::App::default(), short).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(TEN).await;
    let request = worker.request().await;
    let mut call = worker.need_body(request.id, 0).await;
    assert!(call.chunk().await.is_err());
    worker.cancelled(request.id).await;
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 408"));
    // Before a worker has begun it, too.
    let mut client = stage.client(TEN).await;
    let request = worker.request().await;
    worker.cancelled(request.id).await;
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_is_noticed_at_once() {
    for has_begun in [false, true] {
        let mut stage = Stage::new(routes::App::default()).await;
        let mut worker = stage.streaming_worker().await;
        let client = stage.client(&format!("{CHUNKED}3\r\nabc\r\n")).await;
        let request = worker.request().await;
        let call = match has_begun {
            true => Some(worker.need_body(request.id, 3).await),
            false => None,
        };
        drop(client);
        worker.cancelled(request.id).await;
        if let Some(mut call) = call {
            assert!(call.chunk().await.is_err(), "a part of the body passes for the whole");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_during_its_upload_is_noticed_at_once() {
    for has_begun in [false, true] {
        let mut stage = Stage::new(routes::App::default()).await;
        let mut worker = stage.streaming_worker().await;
        let mut client = stage.client_h2().await;
        let request = Request::builder().method(Method::POST).uri("https://blog.example/");
        let (_response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data("abc".into(), false).unwrap();
        let request = worker.request().await;
        let call = match has_begun {
            true => Some(worker.need_body(request.id, request.body.len() as u64).await),
            false => None,
        };
        stream.send_reset(Reason::CANCEL);
        worker.cancelled(request.id).await;
        if let Some(mut call) = call {
            assert!(call.read(usize::MAX).await.is_err(), "a part of the body passes for the whole");
        }
    }
}

/// An idle stream of server-sent events.
#[tokio::test]
async fn a_client_that_leaves_a_silent_response_is_noticed_at_once() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client("GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await;
    let request = worker.request().await;
    worker.begin_response(Response { id: request.id, ..Response::default() });
    let call = worker.call(request.id).await;
    call.send("data: 1\n\n").await;
    read_until(&mut client, "data: 1\n\n\r\n").await;
    drop(client);
    worker.cancelled(request.id).await;
    call.closed().await;

    let mut client = stage.client_h2().await;
    let request = Request::builder().uri("https://blog.example/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let request = worker.request().await;
    worker.begin_response(Response { id: request.id, ..Response::default() });
    let call = worker.call(request.id).await;
    call.send("data: 1\n\n").await;
    let mut body = soon("the response", response).await.unwrap().into_body();
    assert_eq!(soon("an event", body.data()).await.unwrap().unwrap(), "data: 1\n\n");
    // This resets its stream; the connection stays.
    drop(body);
    worker.cancelled(request.id).await;
    call.closed().await;
    soon("another stream", client.ready()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_before_its_response_is_noticed_at_once() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let client = stage.client("GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await;
    let request = worker.request().await;
    drop(client);
    worker.cancelled(request.id).await;

    let mut client = stage.client_h2().await;
    let request = Request::builder().uri("https://blog.example/").body(()).unwrap();
    let (response, mut stream) = client.send_request(request, true).unwrap();
    let request = worker.request().await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    worker.cancelled(request.id).await;
}

#[tokio::test]
async fn a_client_is_read_no_faster_than_the_app_reads() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let head = CHUNKED.replace("Transfer-Encoding: chunked", "Content-Length: 100000000");
    let client = stage.client(&head).await;
    let request = worker.request().await;
    let mut call = worker.need_body(request.id, request.body.len() as u64).await;
    let (mut reads, mut writes) = client.into_split();
    let block = [b'x'; 65536];
    let mut sent = 0;
    // It stalls once all buffers are full.
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), writes.write(&block)).await {
        sent += written.unwrap();
        assert!(sent < 50_000_000, "nothing holds the client up");
    }
    let rest = async {
        while sent < 100_000_000 {
            sent += writes.write(&block[..block.len().min(100_000_000 - sent)]).await.unwrap();
        }
    };
    let (read, ()) = tokio::join!(call.read(usize::MAX), rest);
    assert_eq!(read.unwrap().len(), 100_000_000);
    worker.answer(request.id, "thanks");
    let mut answer = String::new();
    while !answer.ends_with("thanks") {
        let mut part = [0; 1024];
        let got = soon("the response", reads.read(&mut part)).await.unwrap();
        answer += std::str::from_utf8(&part[..got]).unwrap();
    }
}

/// Clients may send what is left after an early response, as for other workers.
#[tokio::test]
async fn the_rest_of_a_body_is_dropped_after_an_early_response() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    for read_first in [false, true] {
        let mut client = stage.client(&format!("{TEN}123")).await;
        let request = worker.request().await;
        let _call = match read_first {
            true => Some(worker.need_body(request.id, 3).await),
            false => None,
        };
        worker.answer(request.id, "thanks");
        read_until(&mut client, "thanks").await;
        client.write_all(b"4567890GET /next HTTP/1.1\r\nHost: blog.example\r\n\r\n").await.unwrap();
        let request = worker.request().await;
        assert_eq!(&*request.target, b"/next");
        worker.answer(request.id, "welcome");
        read_until(&mut client, "welcome").await;
    }
}

/// The time that a client takes to send its body isn't the worker's.
#[tokio::test]
async fn a_slow_upload_does_not_count_towards_the_time_of_the_request() {
    let app = routes::App { request_milliseconds: 1, ..routes::App::default() };
    let mut stage = Stage::new(app).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(&format!("{TEN}123")).await;
    let request = worker.request().await;
    let mut call = worker.need_body(request.id, 3).await;
    // frontd gives a worker a second longer than the limit, and checks twice a second.
    tokio::time::sleep(Duration::from_millis(1800)).await;
    client.write_all(b"4567890").await.unwrap();
    assert_eq!(call.read(8).await.unwrap(), b"4567890");
    // Now the worker is silent for too long.
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 504"));
}
