//! A real worker: `workerd`, and the `python3` that it becomes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use api::worker::attach_request::Message;
use api::worker::{Failed, Hello, Ready, Spec};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::emperor::Emperor;
use crate::front::Front;

/// Longer than anything takes on a slow machine: what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Longer than the last message of an exited worker takes to arrive.
const IN_TRANSIT: Duration = Duration::from_secs(5);

/// A worker with its emperord, in a temporary folder.
pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) emperor: Emperor,
    pub(crate) spec: Spec,
    folder: TempDir,
    log: BufReader<ChildStderr>,
}

/// What to run.
pub(crate) struct App<'a> {
    /// The content of `app.py`.
    pub(crate) source: &'a str,
    pub(crate) app: &'a str,
    pub(crate) threads: u32,
    pub(crate) python: String,
    pub(crate) stop_milliseconds: u32,
    pub(crate) recycle_memory: u64,
    pub(crate) development: bool,
    /// frontd's group, if frontd is another user.
    pub(crate) front: Option<u32>,
    /// Whether to run it in a separate PID namespace, with its session leader outside.
    pub(crate) own_pids: bool,
}

impl<'a> App<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        // The tests can be run with any Python version.
        let python = std::env::var("IMPERIUM_TEST_PYTHON").unwrap_or_default();
        Self {
            source,
            app: "app:application",
            threads: 1,
            python,
            stop_milliseconds: 0,
            recycle_memory: 0,
            development: false,
            front: None,
            own_pids: false,
        }
    }

    /// Starts a worker.
    pub(crate) fn start(self) -> Worker {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("app.py"), self.source).unwrap();
        if let Some(group) = self.front {
            chown(root, None, Some(group)).unwrap();
            fs::set_permissions(root, Permissions::from_mode(0o2750)).unwrap();
        }
        let spec = Spec {
            vassal: "blog".to_owned(),
            number: 2,
            generation: 3,
            app: self.app.to_owned(),
            directory: root.to_str().unwrap().to_owned(),
            python: self.python,
            env: [("GREETING".to_owned(), "hello".to_owned())].into(),
            threads: self.threads,
            socket: root.join("blog-2.sock").to_str().unwrap().to_owned(),
            workers: 2,
            stop_milliseconds: self.stop_milliseconds,
            recycle_memory: self.recycle_memory,
            development: self.development,
            ..Spec::default()
        };
        let emperor = Emperor::serve(&root.join("emperord.sock"), spec.clone());
        let workerd = env!("CARGO_BIN_EXE_workerd");
        let mut command = Command::new(if self.own_pids { "unshare" } else { workerd });
        if self.own_pids {
            if !rustix::process::geteuid().is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            command.args(["--pid", "--fork", "--kill-child", workerd]);
        }
        let mut child = command
            .args(["blog-2", "--emperord"])
            .arg(root.join("emperord.sock"))
            .arg("--extension")
            .arg(extension())
            .env("NOTIFY_SOCKET", "/nowhere")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Worker { child, emperor, spec, folder, log }
    }

    /// Starts a worker and waits until it serves.
    pub(crate) async fn ready(self) -> Worker {
        let mut worker = self.start();
        worker.hello().await;
        worker.becomes_ready().await;
        worker
    }
}

/// Built by cargo next to the tests.
fn extension() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libpyworker.so")
}

impl Worker {
    pub(crate) async fn hello(&mut self) -> Hello {
        match self.next_message().await {
            Message::Hello(hello) => hello,
            other => panic!("{other:?} is no hello"),
        }
    }

    pub(crate) async fn becomes_ready(&mut self) -> Ready {
        match self.next_message().await {
            Message::Ready(ready) => ready,
            other => panic!("{other:?} is not ready"),
        }
    }

    pub(crate) async fn fails(&mut self) -> Failed {
        match self.next_message().await {
            Message::Failed(failed) => failed,
            other => panic!("{other:?} is no failure"),
        }
    }

    /// Its next message. If it has exited, the log contains the reason.
    async fn next_message(&mut self) -> Message {
        let ended = tokio::select! {
            message = within(self.emperor.next_message()) => return message,
            ended = self.child.wait() => ended.unwrap(),
        };
        match timeout(IN_TRANSIT, self.emperor.next_message()).await {
            Ok(message) => message,
            Err(_) => panic!("it ended with {ended}:\n{}", self.log().await),
        }
    }

    /// Opens a `Serve` call.
    pub(crate) async fn front(&self, stream: u64) -> Front {
        Front::open(Path::new(&self.spec.socket), stream).await
    }

    /// A path that the app can use.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        within(self.child.wait()).await.unwrap().code()
    }

    /// Waits for the next line of its log that contains `text`.
    pub(crate) async fn logs(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                within(self.log.read_line(&mut line)).await.unwrap() > 0,
                "it exited without logging {text}"
            );
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The rest of its log, once it has exited.
    pub(crate) async fn log(&mut self) -> String {
        let mut log = String::new();
        within(self.log.read_to_string(&mut log)).await.unwrap();
        log
    }
}

/// Fails if `work` hangs.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("it hangs")
}
