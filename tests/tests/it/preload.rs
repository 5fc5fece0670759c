//! Apps that are imported once, in a template that workers are forked from.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tests::client::{Client, Protocol};
use tests::load::{Kind, Load};
use tests::place::Place;
use tests::process::{self, Process};
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::{TIMEOUT, until};

/// Reports which process imported it, and which hooks were called where.
const APP: &str = r#"
import json, os, threading
import imperium
import edges

importer, hooks = os.getpid(), []
os.register_at_fork(after_in_child=lambda: hooks.append("at fork"))
imperium.on_fork(lambda: hooks.append(f"on fork in {imperium.worker_id()}"))

def application(environ, start_response):
    if environ["PATH_INFO"] != "/facts":
        return edges.application(environ, start_response)
    facts = {
        "pid": os.getpid(), "importer": importer, "hooks": hooks, "id": imperium.worker_id(),
        "main": threading.current_thread() is threading.main_thread(),
        "stdin": os.readlink("/proc/self/fd/0"), "title": open("/proc/self/cmdline").read().strip("\0"),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]
"#;

fn app() -> anyhow::Result<(tempfile::TempDir, Vassal)> {
    let folder = tempfile::tempdir()?;
    fs::copy(Place::of_tests()?.apps.join("wsgi/edges.py"), folder.path().join("edges.py"))?;
    fs::write(folder.path().join("shared.py"), APP)?;
    let vassal = Vassal::new("shared", folder.path(), "shared").workers(3).key("preload = true");
    Ok((folder, vassal))
}

async fn facts(client: &Client, of: &[u32]) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut seen: Vec<serde_json::Value> = Vec::new();
    until("every worker has reported", async || {
        let facts = client.get("/facts").await?.expect(200)?.json()?;
        if !seen.iter().any(|it| it["pid"] == facts["pid"]) {
            seen.push(facts);
        }
        let pids: BTreeSet<_> = seen.iter().filter_map(|it| it["pid"].as_u64()).collect();
        Ok(of.iter().all(|pid| pids.contains(&u64::from(*pid))).then(|| seen.clone()))
    })
    .await
}

/// Load in the background, so that requests reach all workers.
fn load(stack: &Stack) -> anyhow::Result<Load> {
    Ok(Load::start(&stack.client("shared", Protocol::Http1)?, 6, Kind::Both))
}

#[tokio::test]
async fn a_preloaded_app_is_imported_once_and_each_worker_is_a_process() -> anyhow::Result<()> {
    let (_folder, vassal) = app()?;
    stack::with([vassal], async |stack| {
        let load = load(stack)?;
        let pids = stack.ready("shared", 3).await?;
        let template = template(stack)?;
        let client = stack.client("shared", Protocol::Http2)?;
        for facts in facts(&client, &pids).await? {
            let id = facts["id"].clone();
            ensure!(facts["importer"] == template, "not imported by {template}: {facts}");
            ensure!(facts["hooks"] == serde_json::json!(["at fork", format!("on fork in {id}")]), "{facts}");
            ensure!(facts["main"] == true, "{facts}");
            ensure!(facts["stdin"] == "/dev/null", "{facts}");
            ensure!(facts["title"] == format!("imperium: shared [{id}]"), "{facts}");
        }
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn reloads_scaling_and_crashes_under_load() -> anyhow::Result<()> {
    let (_folder, vassal) = app()?;
    stack::with([vassal.clone()], async |stack| {
        // Only GET, since requests of a killed worker are retried.
        let load = Load::start(&stack.client("shared", Protocol::Http1)?, 6, Kind::Gets);
        let first = template(stack)?;
        let old = stack.ready("shared", 3).await?;
        stack.command("reload", &["shared"]).await?;
        let new = stack.ready("shared", 3).await?;
        ensure!(old.iter().all(|pid| !new.contains(pid)), "{old:?} became {new:?}");
        ensure!(process::ends(first, TIMEOUT), "the template of before is still running");
        let second = template(stack)?;

        stack.command("scale", &["shared", "5"]).await?;
        stack.command("scale", &["shared", "2"]).await?;
        let two = stack.ready("shared", 2).await?;
        stack.kill(two[0])?;
        stack.logged(&["worker exited unexpectedly", &two[0].to_string(), "was killed by SIGKILL"]).await?;
        stack
            .until("shared", "it is replaced", |app| app.is_whole() && !app.ready().contains(&two[0]))
            .await?;
        ensure!(template(stack)? == second, "another template for a crash");

        stack.kill(second)?;
        stack.logged(&["template exited unexpectedly"]).await?;
        stack.command("scale", &["shared", "3"]).await?;
        ensure!(template(stack)? != second, "a dead one forks");
        load.flows(100).await?;
        load.finish().await?.all_right()
    })
    .await
}

#[tokio::test]
async fn workers_outlive_emperord_and_the_next_one_adopts_them() -> anyhow::Result<()> {
    let (_folder, vassal) = app()?;
    stack::with([vassal], async |stack| {
        let load = load(stack)?;
        let pids = stack.ready("shared", 3).await?;
        let first = template(stack)?;
        stack.kill(stack.daemon("emperord").await?)?;
        ensure!(process::ends(first, TIMEOUT), "a template outlives its emperord");
        load.flows(100).await?;
        ensure!(stack.ready("shared", 3).await? == pids, "they were not adopted");
        load.finish().await?.all_right()?;
        stack.logged(&["worker adopted"]).await?;
        stack.kill(pids[0])?;
        stack
            .until("shared", "it is replaced", |app| app.is_whole() && !app.ready().contains(&pids[0]))
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_failed_import_has_its_traceback_in_the_status() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let threads = "import threading, time\n\
                   threading.Thread(target=time.sleep, args=(60,), name='poller', daemon=True).start()\n\
                   def application(environ, start_response): pass\n";
    fs::write(folder.path().join("threads.py"), threads)?;
    fs::write(folder.path().join("broken.py"), "import no_such_module_at_all\n")?;
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        for (name, why) in [
            (
                "broken",
                "broken.py\", line 1, in <module>\n    import no_such_module_at_all\nModuleNotFoundError",
            ),
            (
                "threads",
                "the app starts threads while it is imported, which no forked worker would have (poller)",
            ),
        ] {
            stack.put(&Vassal::new(name, folder.path(), name).workers(3).key("preload = true"))?;
            let failed = |app: &App| app.state == "backing_off" && app.error().contains(why);
            stack.until(name, "it has failed", failed).await?;
        }
        fs::write(folder.path().join("broken.py"), "from edges import application\n")?;
        fs::copy(stack.place.apps.join("wsgi/edges.py"), folder.path().join("edges.py"))?;
        stack.touch("broken")?;
        stack.ready("broken", 3).await?;
        Ok(())
    })
    .await
}

/// Its thread is restarted in each fork, like OpenTelemetry's. It holds its lock most of the time, and the
/// lock is acquired around a fork, like that of `logging`.
const THREADS: &str = r#"
import os, threading, time

lock = threading.Lock()

def poll():
    while True:
        with lock:
            time.sleep(0.005)

def start():
    global poller
    poller = threading.Thread(target=poll, name="poller", daemon=True)
    poller.start()

def start_again():
    lock.release()
    start()

os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=start_again)
start()

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"alive" if poller.is_alive() and poller in threading.enumerate() else b"dead"]
"#;

#[tokio::test]
async fn threads_that_start_again_are_allowed_if_the_file_says_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("polls.py"), THREADS)?;
    let polls = Vassal::new("polls", folder.path(), "polls").workers(3);
    stack::with([polls.clone().key("preload = { threads = \"allow\" }")], async |stack| {
        stack.logged(&["polls-template", "which the app's file allows", "poller"]).await?;
        for workers in ["1", "4"] {
            stack.command("scale", &["polls", workers]).await?;
            let client = stack.client("polls", Protocol::Http2)?;
            for _ in 0..20 {
                ensure!(client.get("/").await?.expect(200)?.text() == "alive");
            }
        }
        stack.put(&polls.clone().key("preload = { threads = \"refuse\" }"))?;
        let failed =
            |app: &App| app.error().contains("write `preload = { threads = \"allow\" }` if they start again");
        stack.until("polls", "its threads are refused", failed).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sockets_that_all_workers_would_share_are_reported() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let database = std::net::TcpListener::bind("127.0.0.1:0")?;
    let path = folder.path().join("broker.sock");
    let _broker = std::os::unix::net::UnixListener::bind(&path)?;
    let text = format!(
        "import socket\ndatabase = socket.create_connection(('127.0.0.1', {}))\n\
         broker = socket.socket(socket.AF_UNIX)\nbroker.connect('{}')\n\
         closed = socket.create_connection(('127.0.0.1', {}))\nclosed.close()\nfrom edges import application\n",
        database.local_addr()?.port(),
        path.display(),
        database.local_addr()?.port(),
    );
    fs::write(folder.path().join("connected.py"), text)?;
    fs::copy(Place::of_tests()?.apps.join("wsgi/edges.py"), folder.path().join("edges.py"))?;
    let connected = Vassal::new("connected", folder.path(), "connected").key("preload = true");
    stack::with([connected], async |stack| {
        let peer = format!("connected to {}", database.local_addr()?);
        for socket in ["tcp 127.0.0.1:", &format!("unix, connected to {}", path.display())] {
            stack.logged(&["connected-template", "all of its workers share it", socket]).await?;
        }
        stack.logged(&["all of its workers share it", &peer]).await?;
        let log = stack.log();
        ensure!(log.matches("all of its workers share it").count() == 2, "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_hook_that_raises_is_reported() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let hook = "import imperium\nfrom edges import application\n\
                @imperium.on_fork\ndef connect():\n    raise ConnectionError('no broker')\n";
    fs::write(folder.path().join("hooked.py"), hook)?;
    fs::copy(Place::of_tests()?.apps.join("wsgi/edges.py"), folder.path().join("edges.py"))?;
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        for preload in ["true", "false"] {
            let name = format!("hooked-{preload}");
            stack.put(&Vassal::new(&name, folder.path(), "hooked").key(&format!("preload = {preload}")))?;
            let failed = |app: &App| app.state == "backing_off" && app.error().contains("in connect\n");
            let status = stack.until(&name, "it has failed", failed).await?;
            ensure!(status.error().contains("ConnectionError: no broker"), "{}", status.error());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn scaling_during_the_import() -> anyhow::Result<()> {
    let (folder, vassal) = app()?;
    let slow = "import os, time\nfrom shared import application\n\
                while not os.path.exists('gate'): time.sleep(0.01)\n";
    fs::write(folder.path().join("slow.py"), slow)?;
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let vassal = vassal.app("slow");
        stack.put(&vassal.clone().workers(4))?;
        stack.logged(&["template started"]).await?;
        for workers in [1, 3, 2] {
            stack.put(&vassal.clone().workers(workers))?;
            stack.until("shared", "the number is known", |app| app.wanted == workers).await?;
        }
        fs::write(folder.path().join("gate"), "")?;
        let pids = stack.ready("shared", 2).await?;
        let forks = async || {
            let titled = Process::descendants(stack.up())
                .into_iter()
                .filter(|it| title(it.pid).contains(": shared ["));
            Ok((titled.count() == pids.len() + 1).then_some(()))
        };
        until("two workers and a template are left", forks).await
    })
    .await
}

/// Turning preload on or off replaces workers like any other change.
#[tokio::test]
async fn turning_preload_on_and_off() -> anyhow::Result<()> {
    let (_folder, vassal) = app()?;
    let off = vassal.text().replace("preload = true", "preload = false");
    stack::with([vassal.clone()], async |stack| {
        let load = load(stack)?;
        let first = template(stack)?;
        stack.write("shared", &off)?;
        stack.until("shared", "it runs without", |app| app.generation == 2 && app.is_whole()).await?;
        ensure!(process::ends(first, TIMEOUT), "the template is still running");
        stack.put(&vassal)?;
        stack.until("shared", "it runs with", |app| app.generation == 3 && app.is_whole()).await?;
        template(stack)?;
        load.finish().await?.all_right()
    })
    .await
}

/// The cost of another worker once it is ready: prints the figures, and checks memory against the promised
/// limit.
#[tokio::test]
async fn another_worker_of_django_costs_little_memory() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("db.sqlite3");
    fs::copy(place.django_database(), &database)?;
    stack::with([Vassal::django(&place, &database).workers(4).key("preload = true")], async |stack| {
        let client = stack.client("django", Protocol::Http2)?;
        visit_all(&client).await?;
        let before = total(stack, "django").await?;
        stack.command("scale", &["django", "5"]).await?;
        let ready = total(stack, "django").await?.saturating_sub(before);
        visit_all(&client).await?;
        let used = total(stack, "django").await?.saturating_sub(before);
        print(&stack.logged(&["worker is ready", "django-5"]).await?);
        print(&format!("one more worker adds {} kB of Pss, and {} kB once used", ready / 1024, used / 1024));
        ensure!(ready < 15_000_000, "{ready} bytes of Pss for one more worker");
        Ok(())
    })
    .await
}

/// Sends enough concurrent requests for each worker to get some.
async fn visit_all(client: &Client) -> anyhow::Result<()> {
    for _ in 0..5 {
        let visits = (0..20).map(|_| client.get("/"));
        for answer in futures_util::future::join_all(visits).await {
            answer?.expect(200)?;
        }
    }
    Ok(())
}

/// The total PSS of an app's processes, including its template.
async fn total(stack: &Stack, app: &str) -> anyhow::Result<u64> {
    let mut pids = stack.until(app, "all workers are ready", App::is_whole).await?.ready();
    pids.push(template(stack)?);
    pids.into_iter().map(process::pss).sum()
}

#[expect(clippy::print_stdout, reason = "figures for whoever runs this test alone")]
fn print(figures: &str) {
    println!("{figures}");
}

/// The process whose title is that of a template.
fn template(stack: &Stack) -> anyhow::Result<u32> {
    let pids = Process::descendants(stack.up()).into_iter().map(|it| it.pid);
    pids.into_iter().find(|pid| title(*pid).contains("[template]")).context("find the template")
}

fn title(pid: u32) -> String {
    let path = Path::new("/proc").join(pid.to_string()).join("cmdline");
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[tokio::test]
async fn an_orphan_of_an_app_leaves_no_zombie() -> anyhow::Result<()> {
    let (folder, vassal) = app()?;
    let forker = "import os, subprocess\nfrom edges import application\n\
                  subprocess.run(['sh', '-c', 'sleep 1000 & echo $! > orphan'])\n";
    fs::write(folder.path().join("forker.py"), forker)?;
    stack::with([vassal.app("forker").key("")], async |stack| {
        let orphan: u32 = fs::read_to_string(folder.path().join("orphan"))?.trim().parse()?;
        process::signal(orphan, Signal::KILL)?;
        until("it is reaped", async || Ok((!Path::new(&format!("/proc/{orphan}")).exists()).then_some(())))
            .await?;
        stack.ready("shared", 3).await?;
        Ok(())
    })
    .await
}
