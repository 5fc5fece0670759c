//! Who may send requests to a worker.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::front::get;
use crate::process::{App, Worker, within};

const HELLO: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"#;

/// Starts an HTTP/2 connection as another user, and prints the worker's reaction.
const SPEAK: &str = r#"
import os, socket, sys
path, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    try:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        print("admitted" if connection.recv(1) else "refused")
    except OSError:
        print("refused")
"#;

const USER: u32 = 65_534;
const GROUP: u32 = 65_533;

#[tokio::test]
async fn another_user_is_refused() {
    skip::needs_root!();
    let mut worker = App::new(HELLO).ready().await;
    // Even if file permissions would allow it.
    fs::set_permissions(worker.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&worker.spec.socket, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(speak(&worker, USER, GROUP), "refused");
    worker.logs("connection refused: not frontd's").await;
    assert_eq!(speak(&worker, 0, GROUP), "admitted");
    // Other connections still work.
    assert_eq!(within(worker.front(1).await.fetch(get("/"))).await.body, "hello");
}

#[tokio::test]
async fn frontd_is_admitted_by_its_group() {
    skip::needs_root!();
    let worker = App { front: Some(GROUP), ..App::new(HELLO) }.ready().await;
    assert_eq!(speak(&worker, USER, GROUP), "admitted");
}

fn speak(worker: &Worker, user: u32, group: u32) -> String {
    let mut python = Command::new("python3");
    python
        .args(["-c", SPEAK])
        .arg(Path::new(&worker.spec.socket))
        .args([user.to_string(), group.to_string()]);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
