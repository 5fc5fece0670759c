//! Apps that replace threads with greenlets: several threads are refused, with a hint.

use std::collections::BTreeSet;
use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack;
use tests::status::App;
use tests::vassal::Vassal;

/// Responds once as many requests are running as there are threads.
const APP: &str = r#"
import os, threading, time, uuid

THREADS = int(os.environ["THREADS"])

def application(environ, start_response):
    open(f"begun/{uuid.uuid4()}", "w").close()
    while len(os.listdir("begun")) < THREADS:
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [threading.current_thread().name.encode()]
"#;

const GEVENT: &str = "from gevent import monkey\nmonkey.patch_all()\n";
const EVENTLET: &str = "import eventlet\neventlet.monkey_patch()\n";

/// One app for each: its name, what it patches, its threads.
const SERVED: [(&str, &str, u32); 5] = [
    ("plain", "", 4),
    ("gevent", GEVENT, 1),
    ("eventlet", EVENTLET, 1),
    ("gevent-io", "from gevent import monkey\nmonkey.patch_all(thread=False)\n", 4),
    (
        "debugged",
        "import _thread\nstart = _thread.start_new_thread\n_thread.start_new_thread = lambda *a: start(*a)\n",
        4,
    ),
];

#[tokio::test]
async fn several_threads_are_refused_if_they_are_greenlets() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place::of_tests()?;
    let app = |name: &str, patch: &str, threads: u32| -> anyhow::Result<Vassal> {
        let directory = folder.path().join(name);
        fs::create_dir_all(directory.join("begun"))?;
        fs::write(directory.join("patched.py"), format!("{patch}{APP}"))?;
        let vassal = Vassal::new(name, &directory, "patched").python(&place.venv);
        Ok(vassal.key(&format!("threads = {threads}")).env("THREADS", &threads.to_string()))
    };
    stack::with([Vassal::wsgi(&place)], async |stack| {
        for (name, patch, threads) in SERVED {
            stack.put(&app(name, patch, threads)?)?;
            stack.ready(name, 1).await?;
            let client = stack.client(name, Protocol::Http2)?;
            let asked = (0..threads).map(|_| client.get("/"));
            let mut seen = BTreeSet::new();
            for answer in futures_util::future::try_join_all(asked).await? {
                seen.insert(answer.expect(200)?.text());
            }
            ensure!(seen.len() == threads as usize, "{name} ran on {seen:?}");
        }
        for (name, patch, hint) in [
            ("gevents", GEVENT, "gevent.monkey.patch_all(thread=False)"),
            ("eventlets", EVENTLET, "eventlet.monkey_patch(thread=False)"),
        ] {
            for (number, preload) in ["false", "true"].into_iter().enumerate() {
                let name = format!("{name}-{number}");
                stack.put(&app(&name, patch, 4)?.key(&format!("preload = {preload}")))?;
                let refused = |app: &App| app.state != "running" && app.error().contains(hint);
                let status = stack.until(&name, "it is refused", refused).await?;
                ensure!(
                    status.error().contains("write `threads = 1` and more `workers`"),
                    "{}",
                    status.error()
                );
            }
        }
        Ok(())
    })
    .await
}
