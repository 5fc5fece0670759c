use super::*;
use crate::executor::head::HeadBuilder;

fn head(status: u16, headers: &[(&str, &str)]) -> Head {
    let mut builder = HeadBuilder::with_number(status).unwrap();
    for (name, value) in headers {
        builder.header(name, value).unwrap();
    }
    builder.build()
}

fn started(method: &str, status: u16, headers: &[(&str, &str)]) -> Reply {
    let mut reply = Reply::to(method.as_bytes());
    reply.start(head(status, headers), false).unwrap();
    reply
}

fn body(reply: &mut Reply, body: &'static str, more: bool) -> Result<Progress, ReplyError> {
    reply.body(Bytes::from_static(body.as_bytes()), more)
}

fn whole(reply: &mut Reply) -> (u32, String) {
    match reply.flush(7) {
        Flushed::Whole(response) => (response.status, String::from_utf8(response.body.into()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_sent_within_a_turn_is_one_message() {
    let mut reply = started("GET", 200, &[]);
    assert!(body(&mut reply, "a", true).unwrap().flush);
    assert!(!body(&mut reply, "b", true).unwrap().flush);
    assert!(body(&mut reply, "", false).unwrap().flush);
    assert!(reply.is_complete());
    assert_eq!(whole(&mut reply), (200, "ab".to_owned()));
    assert!(matches!(reply.flush(7), Flushed::Nothing));
    assert_eq!(body(&mut reply, "c", false), Err(ReplyError::Ended(BODY)));
}

#[test]
fn what_follows_in_a_later_turn_is_streamed() {
    let mut reply = started("GET", 200, &[]);
    body(&mut reply, "a", true).unwrap();
    let Flushed::Stream(response, outbound) = reply.flush(7) else { panic!("it isn't complete") };
    assert!(response.streamed && !reply.is_complete() && !outbound.is_full());
    let large = Bytes::from(vec![0; 100 << 10]);
    assert!(reply.body(large, true).unwrap().is_full && !reply.has_room());
    body(&mut reply, "c", false).unwrap();
    assert!(reply.is_complete());
}

#[test]
fn a_large_body_is_streamed_even_if_it_is_complete() {
    let mut reply = started("GET", 200, &[]);
    reply.body(Bytes::from(vec![0; INLINE_LIMIT + 1]), false).unwrap();
    assert!(matches!(reply.flush(7), Flushed::Stream(..)));
    assert!(reply.is_complete());
}

#[test]
fn bodies_that_responses_do_not_have_are_dropped() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let mut reply = started(method, status, &[("content-length", "3")]);
        assert!(body(&mut reply, "abc", true).unwrap().flush);
        assert_eq!(whole(&mut reply), (status.into(), String::new()));
        // A generator may continue.
        assert_eq!(body(&mut reply, "def", false).map(|it| it.flush), Ok(false));
    }
}

#[test]
fn a_body_has_its_content_length() {
    let mut reply = started("GET", 200, &[("content-length", "3")]);
    assert_eq!(body(&mut reply, "abcd", false).unwrap().overrun, Overrun(1));
    assert_eq!(whole(&mut reply), (200, "abc".to_owned()));
    let mut reply = started("GET", 200, &[("content-length", "3")]);
    assert!(matches!(body(&mut reply, "ab", false), Err(ReplyError::Short(_))));
    assert!(reply.fail(), "nothing was sent yet");
}

#[test]
fn messages_have_an_order() {
    let mut reply = Reply::to(b"GET");
    assert_eq!(body(&mut reply, "a", false), Err(ReplyError::NotStarted(BODY)));
    reply.start(head(200, &[]), false).unwrap();
    assert_eq!(reply.start(head(200, &[]), false), Err(ReplyError::StartedTwice));
    assert_eq!(reply.trailers(Vec::new(), false), Err(ReplyError::NoTrailers));
    body(&mut reply, "a", false).unwrap();
    assert_eq!(reply.start(head(200, &[]), false), Err(ReplyError::StartedTwice));
    whole(&mut reply);
    assert_eq!(reply.start(head(200, &[]), false), Err(ReplyError::Ended("http.response.start")));
}

#[test]
fn trailers_follow_a_streamed_body() {
    let mut reply = Reply::to(b"GET");
    reply.start(head(200, &[]), true).unwrap();
    body(&mut reply, "a", false).unwrap();
    assert!(!reply.is_complete());
    assert_eq!(body(&mut reply, "b", false), Err(ReplyError::Ended(BODY)));
    reply.trailers(vec![Header::default()], false).unwrap();
    assert!(reply.is_complete());
    assert!(matches!(reply.flush(7), Flushed::Stream(..)));
}

#[test]
fn a_failure_replaces_what_was_not_sent_and_cuts_the_rest() {
    assert!(Reply::to(b"GET").fail());
    let mut reply = started("GET", 200, &[]);
    body(&mut reply, "a", true).unwrap();
    assert!(reply.fail());
    let mut reply = started("GET", 200, &[]);
    body(&mut reply, "a", false).unwrap();
    assert!(!reply.fail(), "it was complete");
    assert_eq!(whole(&mut reply), (200, "a".to_owned()));
    let mut reply = started("GET", 200, &[]);
    body(&mut reply, "a", true).unwrap();
    reply.flush(7);
    assert!(!reply.fail());
    assert!(reply.is_complete());
}

#[test]
fn a_file_replaces_the_body() {
    let mut reply = started("GET", 200, &[("content-length", "9")]);
    reply.file(File::default()).unwrap();
    let Flushed::Whole(response) = reply.flush(7) else { panic!("it is complete") };
    assert!(response.file.is_some());
}
