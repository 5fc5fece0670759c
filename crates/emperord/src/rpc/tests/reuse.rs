//! Connections whose process has exited, and whose pid was reused.
#![expect(unsafe_code, reason = "a connection is its maker's: another process has to make it")]

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use super::*;

/// The number of attempts to give a worker the pid: threads of the test take pids too.
const TRIES: usize = 50;

/// A process that makes a connection, and exits when output to.
struct Connector {
    process: Child,
    connection: OwnedFd,
}

impl Connector {
    fn connect(path: &Path) -> Self {
        let connection = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let (theirs, address) = (connection.try_clone().unwrap(), SocketAddrUnix::new(path).unwrap());
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: there is only a system call between fork and exec.
        unsafe { command.pre_exec(move || Ok(connect(&theirs, &address)?)) };
        Self { process: command.spawn().unwrap(), connection }
    }

    /// Exits, and leaves the connection to the test.
    fn end(mut self) -> (u32, OwnedFd) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
        (self.process.id(), self.connection)
    }

    fn channel(&self) -> Channel {
        channel(self.connection.as_fd().try_clone_to_owned().unwrap())
    }
}

/// Creates a channel over an existing connection.
fn channel(connection: OwnedFd) -> Channel {
    let stream = std::os::unix::net::UnixStream::from(connection);
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(UnixStream::from_std(stream).unwrap());
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("there was one connection"));
        async move { stream.map(hyper_util::rt::TokioIo::new) }
    }))
}

async fn status(channel: &Channel) -> Result<(), Status> {
    AdminServiceClient::new(channel.clone()).status(StatusRequest {}).await.map(drop)
}

#[tokio::test]
async fn a_connection_that_was_passed_on_is_refused() {
    let served = serve_one_app();
    let maker = Connector::connect(&served.socket);
    let channel = maker.channel();
    status(&channel).await.unwrap();
    maker.end();
    let refusal = status(&channel).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    assert!(refusal.message().ends_with("has exited: open a new connection"), "{refusal}");
    let mut routes = RoutesServiceClient::new(channel);
    let refusal = routes.watch(WatchRequest { front: "test".to_owned() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_connection_passed_on_before_it_was_accepted_is_refused() {
    let served = serve_one_app();
    // Nothing is accepted while this task doesn't yield.
    let (_, connection) = Connector::connect(&served.socket).end();
    assert_eq!(status(&channel(connection)).await.unwrap_err().code(), Code::PermissionDenied);
}

/// In a separate PID namespace, where the next pid can be chosen.
#[test]
fn a_process_with_the_reused_pid_of_another_apps_worker_is_refused() {
    let mut namespace = vec!["--pid", "--fork", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        namespace.extend(["--user", "--map-root-user"]);
    }
    if !Command::new("unshare").args(&namespace).arg("true").status().is_ok_and(|it| it.success()) {
        skip::skip!("unshare can't make a PID namespace here");
    }
    let inside = Command::new("unshare")
        .args(&namespace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "rpc::tests::reuse::in_a_pid_namespace", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success() && output.contains("1 passed"), "{inside:?}");
}

#[tokio::test]
#[ignore = "chooses pids: it is run by the test above"]
async fn in_a_pid_namespace() {
    make_threads().await;
    for is_accepted_first in [true, false] {
        let served = serve_one_app();
        served.emperor.app_until("blog", |it| !it.workers.is_empty()).await;
        let maker = Connector::connect(&served.socket);
        let channel = maker.channel();
        if is_accepted_first {
            status(&channel).await.unwrap();
        }
        let (pid, _connection) = maker.end();
        start_worker_as(&served, pid).await;
        let refusal = WorkerServiceClient::new(channel.clone())
            .get_spec(GetSpecRequest { worker: "shop-1".to_owned() })
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
        let mut worker = WorkerServiceClient::new(channel);
        let refusal = attach(&mut worker, hello("shop-1", pid)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    }
}

/// Threads take pids too: creates the threads for lookups, which are reused, before a pid is chosen.
async fn make_threads() {
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            tokio::task::spawn_blocking(move || barrier.wait())
        })
        .collect();
    for thread in threads {
        thread.await.unwrap();
    }
}

/// Starts a worker of another app with this pid.
async fn start_worker_as(served: &Served, pid: u32) {
    for _ in 0..TRIES {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        served.root.write("shop", 1, "");
        let shop = served.emperor.app_until("shop", |it| !it.workers.is_empty()).await;
        if shop.workers[0].pid == pid {
            return;
        }
        served.root.delete("shop");
        served.emperor.until(|it| it.apps.iter().all(|it| it.name != "shop")).await;
    }
    panic!("no worker got pid {pid}");
}
