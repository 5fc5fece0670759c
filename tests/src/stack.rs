//! The whole stack, run by `imperium up` in its own folder and on its own ports.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Answer, Client, Protocol};
use crate::place::Place;
use crate::process::{self, Process};
use crate::status::{App, Status};
use crate::vassal::Vassal;
use crate::wait::{TIMEOUT, until};
use crate::{leftovers, ports};

/// The variable in the environment of every process of a stack. It contains the stack's folder.
const MARK: &str = "TEST_STACK";

/// Becomes the given program as the leader of a session with a terminal, whose other end it keeps open.
const IN_A_TERMINAL: &str = "
import fcntl, os, pty, sys, termios
os.setsid()
master, terminal = pty.openpty()
os.set_inheritable(master, True)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
";

/// A running stack. It is stopped on drop, which panics if anything is left behind.
pub struct Stack {
    /// The paths of its files.
    pub place: Place,
    /// The address for plain HTTP.
    pub http: SocketAddr,
    /// The address for HTTPS.
    pub https: SocketAddr,
    /// The address for probes and metrics.
    pub admin: SocketAddr,
    root: TempDir,
    up: Child,
    life: Life,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Runs,
    /// It was asked to stop. A second request would kill it.
    Ends,
    Ended,
}

/// Runs `story` with a stack of these apps once all workers are ready. If it fails, the stack's log is
/// printed.
///
/// # Errors
/// The error of `story`, or the reason why the stack couldn't start.
pub async fn with(
    vassals: impl IntoIterator<Item = Vassal>,
    test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stack = Stack::start(Place::of_tests()?, vassals)?;
    let start = async {
        stack.all_ready().await?;
        test(&stack).await
    };
    let outcome = Box::pin(start).await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

impl Stack {
    /// Starts a stack of these apps.
    ///
    /// # Errors
    /// If a file can't be written, or `imperium` can't be started.
    pub fn start(place: Place, vassals: impl IntoIterator<Item = Vassal>) -> anyhow::Result<Self> {
        let up = up(&place);
        Self::start_by(up, place, vassals)
    }

    /// Starts a stack of these apps with additional files in its folder, such as `emperord.toml`.
    ///
    /// # Errors
    /// If a file can't be written, or `imperium` can't be started.
    pub fn start_with_files(
        place: Place,
        vassals: impl IntoIterator<Item = Vassal>,
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let up = up(&place);
        let root = folder()?;
        for (name, text) in files {
            fs::write(root.path().join(name), text)?;
        }
        Self::start_in(root, up, place, vassals)
    }

    /// Starts a stack of these apps in a separate terminal.
    ///
    /// # Errors
    /// If a file can't be written, or Python, which becomes `imperium`, can't be started.
    pub fn in_a_terminal(place: Place, vassals: impl IntoIterator<Item = Vassal>) -> anyhow::Result<Self> {
        let mut up = Command::new(place.venv.join("bin/python"));
        up.args(["-c", IN_A_TERMINAL]).arg(place.binaries.join("imperium")).arg("up");
        Self::start_by(up, place, vassals)
    }

    /// Starts a stack of these apps that logs to `stderr` with `filter` (`IMPERIUM_LOG`). `log` is empty
    /// then.
    ///
    /// # Errors
    /// Same as `start`.
    pub fn logging_to(
        stderr: impl Into<Stdio>,
        filter: &str,
        place: Place,
        vassals: impl IntoIterator<Item = Vassal>,
    ) -> anyhow::Result<Self> {
        let mut up = up(&place);
        up.env("IMPERIUM_LOG", filter).arg("--root");
        let root = folder()?;
        write_vassals(&root, vassals)?;
        up.arg(root.path());
        Self::spawn(place, root, up, stderr.into())
    }

    fn start_by(
        up: Command,
        place: Place,
        vassals: impl IntoIterator<Item = Vassal>,
    ) -> anyhow::Result<Self> {
        Self::start_in(folder()?, up, place, vassals)
    }

    fn start_in(
        root: TempDir,
        mut up: Command,
        place: Place,
        vassals: impl IntoIterator<Item = Vassal>,
    ) -> anyhow::Result<Self> {
        write_vassals(&root, vassals)?;
        up.arg("--root").arg(root.path());
        let log = log_in(&root)?;
        Self::spawn(place, root, up, log)
    }

    /// Runs `imperium up` for one app in `directory`.
    ///
    /// # Errors
    /// If `imperium` can't be started.
    pub fn one_app(place: Place, directory: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::one_app_with(place, directory, arguments, &[])
    }

    /// Like `one_app`, with additional environment variables.
    ///
    /// # Errors
    /// Same as `one_app`.
    pub fn one_app_with(
        place: Place,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &Path)],
    ) -> anyhow::Result<Self> {
        let mut up = up(&place);
        up.args(arguments).current_dir(directory).envs(environment.iter().copied());
        let root = folder()?;
        let log = log_in(&root)?;
        Self::spawn(place, root, up, log)
    }

    fn spawn(place: Place, root: TempDir, mut up: Command, stderr: Stdio) -> anyhow::Result<Self> {
        let [http, https, admin] = ports::free()?;
        up.args(["--http", &http.to_string(), "--https", &https.to_string(), "--admin", &admin.to_string()])
            .env(MARK, root.path())
            .stdin(Stdio::null())
            .stdout(File::create(root.path().join("out"))?)
            .stderr(stderr);
        let up = up.spawn().context("start `imperium up`")?;
        Ok(Self { place, http, https, admin, root, up, life: Life::Runs })
    }

    /// The folder with all its files.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The pid of `imperium up`.
    #[must_use]
    pub fn up(&self) -> u32 {
        self.up.id()
    }

    /// The log of `imperium up` and all its processes so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.root().join("log")).unwrap_or_default()).into_owned()
    }

    /// The output of `imperium up` so far.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(self.root().join("out")).unwrap_or_default()
    }

    /// Waits until the log has a line with all of these words, and returns it.
    ///
    /// # Errors
    /// If it doesn't appear.
    pub async fn logged(&self, words: &[&str]) -> anyhow::Result<String> {
        let line = async || {
            let log = self.log();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            Ok(found.map(str::to_owned))
        };
        until(&format!("the log has a line with {words:?}"), line).await
    }

    /// The path of the CA that `imperium up` printed.
    ///
    /// # Errors
    /// If it printed none.
    pub fn ca(&self) -> anyhow::Result<PathBuf> {
        let printed = self.printed();
        let line = printed.lines().find_map(|line| {
            let one_app = || Some(line.split_once("(CA ")?.1.trim_end_matches(')'));
            line.trim().strip_prefix("CA ").or_else(one_app)
        });
        Ok(line.with_context(|| format!("find the CA's line in {printed:?}"))?.trim().into())
    }

    /// Creates a client of an app.
    ///
    /// # Errors
    /// If there is no CA.
    pub fn client(&self, app: &str, protocol: Protocol) -> anyhow::Result<Client> {
        let address = if protocol == Protocol::Plain { self.http } else { self.https };
        Client::new(&self.ca()?, &format!("{app}.localhost"), address, protocol)
    }

    /// GETs a path of the admin listener.
    ///
    /// # Errors
    /// If it doesn't respond.
    pub async fn probe(&self, path: &str) -> anyhow::Result<Answer> {
        Client::new(&self.ca()?, "localhost", self.admin, Protocol::Plain)?.get(path).await
    }

    /// A metric of frontd for an app; 0 if it is missing.
    ///
    /// # Errors
    /// If frontd doesn't respond.
    pub async fn metric(&self, name: &str, app: &str) -> anyhow::Result<f64> {
        let text = self.probe("/-/metrics").await?.expect(200)?.text();
        let of_app = format!("app=\"{app}\"");
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&of_app));
        let value = line.and_then(|line| line.rsplit(' ').next());
        Ok(value.map_or(Ok(0.0), str::parse)?)
    }

    /// Waits until that many requests are queued for the app.
    ///
    /// # Errors
    /// If that doesn't happen.
    pub async fn waiting(&self, app: &str, requests: u32) -> anyhow::Result<()> {
        let what = format!("{requests} requests wait for {app}");
        until(&what, async || {
            let waiting = self.metric("imperium_queue", app).await?;
            Ok((waiting >= f64::from(requests)).then_some(()))
        })
        .await
    }

    /// The output of `imperium status --json`.
    ///
    /// # Errors
    /// If emperord doesn't respond.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let out = self.command("status", &["--json"]).await?;
        serde_json::from_str(&out).with_context(|| format!("read the status {out:?}"))
    }

    /// Runs another command of `imperium` on this stack, and returns its output.
    ///
    /// # Errors
    /// If it fails. The error contains its output.
    pub async fn command(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(self.place.binaries.join("imperium"));
        command.arg(name).arg("--root").arg(self.root()).args(arguments).kill_on_drop(true);
        let output = command.output().await.context("run `imperium`")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`imperium {name}` {}: {stderr}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until the status of an app satisfies `is`. emperord may be down meanwhile.
    ///
    /// # Errors
    /// If that doesn't happen. The error contains the last status.
    pub async fn until(&self, name: &str, what: &str, is: impl Fn(&App) -> bool) -> anyhow::Result<App> {
        let mut last = None;
        let found = until(what, async || {
            last = self.status().await.ok();
            Ok(last.as_ref().and_then(|status| status.app(name)).filter(|app| is(app)).cloned())
        });
        let found = found.await;
        found.with_context(|| format!("app {name}, of which the status was {last:#?}"))
    }

    /// Waits until the app has that many ready workers and no others, and returns their pids.
    ///
    /// # Errors
    /// If that doesn't happen.
    pub async fn ready(&self, name: &str, workers: usize) -> anyhow::Result<Vec<u32>> {
        let scaled = |app: &App| app.is_whole() && app.workers.len() == workers;
        Ok(self.until(name, &format!("{name} has {workers} workers"), scaled).await?.ready())
    }

    /// Waits until frontd is ready and every app has all of its workers.
    ///
    /// # Errors
    /// If that doesn't happen.
    pub async fn all_ready(&self) -> anyhow::Result<()> {
        let mut last = Err(anyhow::anyhow!("never asked"));
        let all = until("all workers are ready", async || {
            ensure!(Process::of(self.up()).is_some(), "`imperium up` has ended");
            last = self.status().await;
            let all_ready = last.as_ref().is_ok_and(|status| status.apps.iter().all(App::is_whole));
            Ok((all_ready && self.is_ready().await).then_some(()))
        });
        let all = all.await;
        all.with_context(|| format!("the last status was {last:#?}"))
    }

    async fn is_ready(&self) -> bool {
        self.probe("/-/ready").await.is_ok_and(|answer| answer.status == 200)
    }

    /// The pid of a daemon.
    ///
    /// # Errors
    /// If it doesn't start.
    pub async fn daemon(&self, name: &str) -> anyhow::Result<u32> {
        let child = async || Ok(Process::descendants(self.up()).into_iter().find(|it| it.command == name));
        Ok(until(&format!("{name} runs"), child).await?.pid)
    }

    /// Kills a process, and waits until it has exited.
    ///
    /// # Errors
    /// If it doesn't exist.
    pub fn kill(&self, pid: u32) -> anyhow::Result<()> {
        process::signal(pid, Signal::KILL)?;
        ensure!(process::ends(pid, TIMEOUT), "{pid} outlives SIGKILL");
        Ok(())
    }

    /// The path of an app's file.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root().join("vassals").join(format!("{name}.toml"))
    }

    /// Writes an app's file atomically, like an editor.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put(&self, vassal: &Vassal) -> anyhow::Result<()> {
        self.write(vassal.name(), &vassal.text())
    }

    /// Writes any text as an app's file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let beside = self.root().join(format!("{name}.new"));
        fs::write(&beside, text)?;
        fs::rename(&beside, self.file(name)).with_context(|| format!("write {name}.toml"))
    }

    /// Changes only the modification time of an app's file, like `touch`.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn touch(&self, name: &str) -> anyhow::Result<()> {
        let file = File::options().append(true).open(self.file(name))?;
        Ok(file.set_modified(SystemTime::now() + Duration::from_secs(1))?)
    }

    /// Deletes an app's file.
    ///
    /// # Errors
    /// If it doesn't exist.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        fs::remove_file(self.file(name)).with_context(|| format!("remove {name}.toml"))
    }

    /// Prints the end of the log to stderr.
    pub fn show_log(&self) {
        show(&self.log());
    }

    /// Tells the stack to stop, without waiting for it.
    ///
    /// # Errors
    /// If it has already exited.
    pub fn request_stop(&mut self) -> anyhow::Result<()> {
        self.request_stop_with(Signal::TERM)
    }

    /// Like `request_stop`, with another signal.
    ///
    /// # Errors
    /// If it has already exited.
    pub fn request_stop_with(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.life = Life::Ends;
        process::signal(self.up(), signal)
    }

    /// Kills only `imperium up`. The caller has to take care of what is left.
    ///
    /// # Errors
    /// If it has already exited.
    pub fn kill_up(&mut self) -> anyhow::Result<()> {
        self.life = Life::Ended;
        self.up.kill()?;
        self.up.wait()?;
        Ok(())
    }

    /// Stops the stack, unless that was already requested, and checks that nothing is left behind.
    ///
    /// # Errors
    /// If it doesn't exit, fails, or leaves a process or a socket behind.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    /// Stops the stack, unless it has exited by itself, and waits. Its status is ignored.
    ///
    /// # Errors
    /// If it doesn't exit.
    pub fn wait_for_exit(&mut self) -> anyhow::Result<()> {
        if self.life == Life::Runs {
            let _ended_by_itself = self.request_stop();
        }
        self.life = Life::Ended;
        let ended = process::ends(self.up(), TIMEOUT);
        if !ended {
            let _it_may_end_meanwhile = self.up.kill();
        }
        self.up.wait()?;
        ensure!(ended, "`imperium up` is still running after SIGTERM");
        Ok(())
    }

    /// Like `stop`, while the clients of this runtime keep running: they have to react when their connections
    /// are closed.
    ///
    /// # Errors
    /// Same as `stop`.
    pub async fn stop_with_clients(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(|| {
            let log = self.log();
            self.stop().inspect_err(|_| show(&log))
        })
        .await?
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let pids = Process::descendants(self.up());
        if self.life == Life::Runs {
            self.request_stop()?;
        }
        self.life = Life::Ended;
        let ended = process::ends(self.up(), TIMEOUT);
        let mark = format!("{MARK}={}", self.root().display());
        let left = leftovers::processes(pids, &mark);
        if !ended {
            let _it_may_end_meanwhile = self.up.kill();
        }
        let status = self.up.wait()?;
        ensure!(ended, "`imperium up` is still running after SIGTERM, with {left:#?}");
        ensure!(left.is_empty(), "`imperium up` ended, and left {left:#?}");
        ensure!(status.success(), "`imperium up` ended with {status}");
        leftovers::sockets(&self.root().join("run"), [self.http, self.https, self.admin])
    }
}

fn folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("imperium-").tempdir().context("make a folder for the stack")
}

fn write_vassals(root: &TempDir, vassals: impl IntoIterator<Item = Vassal>) -> anyhow::Result<()> {
    fs::create_dir(root.path().join("vassals"))?;
    for vassal in vassals {
        fs::write(root.path().join("vassals").join(format!("{}.toml", vassal.name())), vassal.text())?;
    }
    Ok(())
}

fn log_in(root: &TempDir) -> anyhow::Result<Stdio> {
    Ok(File::create(root.path().join("log"))?.into())
}

fn up(place: &Place) -> Command {
    let mut command = Command::new(place.binaries.join("imperium"));
    command.arg("up");
    command
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.life == Life::Ended {
            return;
        }
        let end = self.end();
        if std::thread::panicking() {
            return self.show_log();
        }
        if let Err(error) = end {
            self.show_log();
            panic!("the stack did not end well: {error:#}");
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows the output of the stack")]
fn show(log: &str) {
    let lines: Vec<_> = log.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(150)).map(|line| format!("  | {line}\n"));
    eprintln!("the stack's log, its last lines:\n{}", tail.collect::<String>());
}
