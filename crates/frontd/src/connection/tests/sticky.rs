//! Clients that are sent to the same worker again.

use super::worker::{Stage, read_until};
use super::*;

fn get(cookie: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: blog.example\r\n{cookie}\r\n")
}

#[tokio::test]
async fn a_client_with_a_cookie_is_sent_to_the_same_worker() {
    let mut stage = Stage::new(routes::App { sticky: true, ..routes::App::default() }).await;
    let mut first = stage.streaming_worker().await;
    let mut second = stage.streaming_worker().await;

    // Two requests at once go to different workers.
    let mut a = stage.client(&get("")).await;
    let asked_a = first.request().await;
    let mut b = stage.client(&get("")).await;
    let asked_b = second.request().await;
    first.answer(asked_a.id, "of the first");
    second.answer(asked_b.id, "of the second");
    read_until(&mut a, "of the first").await;
    let head = read_until(&mut b, "of the second").await;
    let set = head.lines().find_map(|it| it.strip_prefix("Set-Cookie: ")).unwrap_or_else(|| panic!("{head}"));
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");

    // Without the cookie, the first one would get it.
    let cookie = format!("Cookie: theme=dark; {}\r\n", set.split(';').next().unwrap());
    let mut client = stage.client(&get(&cookie)).await;
    let asked = second.request().await;
    second.answer(asked.id, "again");
    let head = read_until(&mut client, "again").await;
    assert!(!head.contains("Set-Cookie"), "the client has it: {head}");

    let mut client = stage.client(&get("Cookie: imperium_worker=0123456789abcdef\r\n")).await;
    let asked = first.request().await;
    first.answer(asked.id, "anew");
    let head = read_until(&mut client, "anew").await;
    assert!(head.contains("Set-Cookie: imperium_worker="), "the worker of the cookie is gone: {head}");
}

#[tokio::test]
async fn other_apps_set_no_cookie() {
    let mut stage = Stage::new(routes::App::default()).await;
    let mut worker = stage.streaming_worker().await;
    let mut client = stage.client(&get("")).await;
    let asked = worker.request().await;
    worker.answer(asked.id, "thanks");
    let head = read_until(&mut client, "thanks").await;
    assert!(!head.contains("Set-Cookie"), "{head}");
}
