//! A real `workerd` with a real Python, between an emperord and a frontd that the tests play.

mod emperor;
mod front;
mod process;

use crate::front::get;
use crate::process::App;

#[tokio::test]
async fn answers_inline() {
    let worker = App::new(
        r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, ", b"world\n"]
"#,
    )
    .ready()
    .await;
    let mut front = worker.front(1).await;
    assert_eq!(front.capacity, 1);
    for _ in 0..3 {
        let response = front.fetch(get("/")).await;
        assert_eq!((response.status, &*response.body, response.done), (200, &b"Hello, world\n"[..], true));
    }
}
