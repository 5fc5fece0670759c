//! The lifecycle of a worker: interpreter, import, signals, restarts of emperord.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use api::runner::serve_response::Message;
use api::worker::failed::Reason;
use rustix::process::{Pid, Signal, kill_process};

use crate::emperor::Emperor;
use crate::front::get;
use crate::process::{App, Worker, within};

const HELLO: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"#;

fn terminate(worker: &Worker) {
    let pid = Pid::from_raw(i32::try_from(worker.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

#[tokio::test]
async fn workerd_becomes_the_apps_python() {
    let app = r#"
import json, os, sys

def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps([
        os.getcwd(), sys.path[0], sys.argv, os.environ.get("GREETING"), os.environ.get("NOTIFY_SOCKET"),
        os.readlink("/proc/self/fd/0"), open("/proc/self/cmdline").read().rstrip("\0"), open("/proc/self/comm").read(),
    ]).encode()]
"#;
    let mut worker = App::new(app).start();
    let hello = worker.hello().await;
    assert_eq!((&*hello.worker, hello.pid, hello.generation, hello.ready), ("blog-2", worker.pid(), 3, None));
    let ready = worker.becomes_ready().await;
    assert_eq!(ready.capacity, 1);
    assert_eq!(ready.socket, worker.spec.socket, "earlier versions of emperord publish it");
    assert!(std::path::Path::new(&worker.spec.socket).exists());
    assert!(ready.python.starts_with("CPython 3."), "{}", ready.python);

    let mut front = worker.front(1).await;
    let body = within(front.fetch(get("/"))).await.body;
    let directory = &worker.spec.directory;
    let expected = format!(
        r#"["{directory}", "{directory}", ["imperium"], "hello", null, "/dev/null", "imperium: blog [2]", "workerd\n"]"#
    );
    assert_eq!(body, expected);
    let load = within(worker.emperor.load()).await;
    assert!(load.memory > 1 << 20);
}

#[tokio::test]
async fn private_memory_is_measured_if_resident_memory_exceeds_the_limit() {
    let limit = |recycle_memory| App { recycle_memory, ..App::new(HELLO) };
    let mut worker = limit(1).ready().await;
    let load = within(worker.emperor.load()).await;
    assert!((1 << 20..load.memory).contains(&load.private_memory), "{load:?}");
    for unlimited in [0, u64::MAX] {
        let mut worker = limit(unlimited).ready().await;
        assert_eq!(within(worker.emperor.load()).await.private_memory, 0, "with a limit of {unlimited}");
    }
}

#[tokio::test]
async fn a_worker_serves_in_a_pid_namespace_without_its_session_leader() {
    let worker = App { own_pids: true, ..App::new(HELLO) }.ready().await;
    assert_eq!(within(worker.front(1).await.fetch(get("/"))).await.body, "hello");
}

#[tokio::test]
async fn a_virtualenv_is_honoured() {
    let app = r#"
import sys

def application(environ, start_response):
    start_response("200 OK", [])
    return [sys.prefix.encode()]
"#;
    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    let base = App::new("").python;
    let base = if base.is_empty() { "python3" } else { &base };
    let made =
        std::process::Command::new(base).args(["-m", "venv", "--without-pip"]).arg(&venv).status().unwrap();
    assert!(made.success());
    let python = venv.to_str().unwrap().to_owned();
    let worker = App { python: python.clone(), ..App::new(app) }.ready().await;
    assert_eq!(within(worker.front(1).await.fetch(get("/"))).await.body, python);
}

#[tokio::test]
async fn an_app_that_cannot_be_imported_says_why() {
    for (source, app, message, traceback) in [
        ("import no_such_module", "app:application", "No module named 'no_such_module' in /", "line 1"),
        ("\ndef f(:", "app:application", "SyntaxError: invalid syntax (app.py, line 2)", "line 2"),
        ("raise SystemExit(7)", "app:application", "SystemExit: 7", "line 1"),
        ("", "gone:application", "No module named 'gone' in /", "ModuleNotFoundError"),
        ("", "gone.py:application", "FileNotFoundError: ", "gone.py"),
        (
            HELLO,
            "app:aplication",
            "AttributeError: module app has no `aplication`: these look like apps: application",
            "",
        ),
        ("x = 1", "app", "AttributeError: module app has neither `application` nor `app`: nothing", ""),
        ("x = 1", "app:x", "TypeError: x of module app is not callable", ""),
    ] {
        let mut worker = App { app, ..App::new(source) }.start();
        worker.hello().await;
        let failed = worker.fails().await;
        // Failures that only an edit can fix are distinguished.
        let reason = if message.starts_with("SyntaxError") { Reason::Source } else { Reason::Import };
        assert_eq!(failed.reason(), reason, "{source}");
        assert!(failed.message.starts_with(message), "{} is not {message}", failed.message);
        assert!(failed.traceback.contains(traceback), "{}", failed.traceback);
        assert_eq!(worker.exit_code().await, Some(3), "{source}");
        assert!(worker.log().await.contains("cannot run the app"), "{source}");
    }
}

#[tokio::test]
async fn a_missing_package_is_named_with_the_interpreter_and_how_to_install_it() {
    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    let base = App::new("").python;
    let base = if base.is_empty() { "python3" } else { &base };
    let made =
        std::process::Command::new(base).args(["-m", "venv", "--without-pip"]).arg(&venv).status().unwrap();
    assert!(made.success());
    let python = venv.to_str().unwrap().to_owned();
    for (uv, install) in [("", format!("{python}/bin/python")), ("uv = 0.9.5\n", "uv pip install".to_owned())]
    {
        let mut config = fs::OpenOptions::new().append(true).open(venv.join("pyvenv.cfg")).unwrap();
        std::io::Write::write_all(&mut config, uv.as_bytes()).unwrap();
        let mut worker = App { python: python.clone(), ..App::new("import yaml.parser") }.start();
        worker.hello().await;
        let message = worker.fails().await.message;
        let cause = format!("No module named 'yaml' in {python}/bin/python");
        assert!(message.starts_with(&cause) && message.contains(" (CPython 3."), "{message}");
        assert!(message.contains(&format!("): install it with `{install}")), "{message}");
        assert!(message.ends_with(" PyYAML`"), "{message}");
    }
}

#[tokio::test]
async fn in_development_failures_are_not_logged_by_each_attempt() {
    let mut worker = App { development: true, ..App::new("import no_such_module") }.start();
    worker.hello().await;
    assert!(worker.fails().await.traceback.contains("import no_such_module"));
    assert_eq!(worker.exit_code().await, Some(3));
    assert!(!worker.log().await.contains("Traceback"));
}

#[tokio::test]
async fn an_app_is_found_by_every_kind_of_name() {
    let source = &format!("{HELLO}\nclass site:\n    app = staticmethod(application)\n");
    for app in ["app:application", "app", "app.py:application", "app.py", "app:site.app"] {
        let worker = App { app, ..App::new(source) }.ready().await;
        assert_eq!(within(worker.front(1).await.fetch(get("/"))).await.body, "hello", "{app}");
    }
}

#[tokio::test]
async fn an_interpreter_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Runs the bootstrap code, like a Python of that version.
    let old = file(
        "old",
        0o755,
        "#!/bin/sh\nexec python3 -c 'import sys; sys.version_info = (3, 9, 1); code = sys.argv[2]; \
         sys.argv = [\"-c\"] + sys.argv[3:]; exec(code)' \"$@\"\n",
    );
    for (python, message) in [
        (folder.path().join("gone").to_str().unwrap().to_owned(), "it does not exist"),
        (folder.path().to_str().unwrap().to_owned(), "there is no bin/python in it"),
        (file("no-program", 0o644, ""), "Permission denied"),
        (old, "CPython 3.10 or newer is needed"),
    ] {
        for development in [false, true] {
            let mut worker = App { python: python.clone(), development, ..App::new(HELLO) }.start();
            worker.hello().await;
            let failed = worker.fails().await;
            assert_eq!(failed.reason(), Reason::Interpreter);
            assert!(failed.message.contains(message), "{}", failed.message);
            assert_eq!(worker.exit_code().await, Some(4));
            // A developer is told by emperord, once for all workers.
            assert_eq!(worker.log().await.contains(message), !development, "{message}");
        }
    }
}

#[tokio::test]
async fn printed_text_is_logged() {
    let app = r#"
import atexit, logging, sys, traceback
logging.basicConfig(level=logging.INFO)
print("printed", 1)
print("two\nlines")
sys.stderr.write("to stderr")
sys.stderr.write("\n")
sys.stdout.buffer.write(b"bytes\n")
sys.stdout.flush()
logging.getLogger("blog").info("from logging")
assert not sys.stdout.isatty() and sys.stderr.fileno() == 2 and sys.stdout.encoding == "utf-8"
print("surrogate \udcff")
atexit.register(print, "last words", end="")

def application(environ, start_response):
    environ["wsgi.errors"].write("from wsgi.errors\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [])
    return []
"#;
    let mut worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    within(front.fetch(get("/"))).await;
    drop(front);
    terminate(&worker);
    assert_eq!(worker.exit_code().await, Some(0));
    let log = worker.log().await;
    for line in [
        " INFO blog-2: printed 1\n",
        " INFO blog-2: two\nlines\n",
        " INFO blog-2: to stderr\n",
        " INFO blog-2: bytes\n",
        " INFO blog-2: INFO:blog:from logging\n",
        " INFO blog-2: from wsgi.errors\n",
        " INFO blog-2: surrogate \\udcff\n",
        " INFO blog-2: last words\n",
    ] {
        assert!(log.contains(line), "no {line:?} in {log}");
    }
}

#[tokio::test]
async fn a_worker_serves_without_emperord_and_attaches_to_the_next() {
    let mut worker = App::new(HELLO).start();
    let hello = worker.hello().await;
    let ready = worker.becomes_ready().await;
    let socket = worker.path("emperord.sock");
    fs::remove_file(&socket).unwrap();
    // The assignment drops the previous one, like `kill -9`: its stream breaks.
    worker.emperor = Emperor::serve(&socket, worker.spec.clone());
    let mut front = worker.front(1).await;
    assert_eq!(within(front.fetch(get("/"))).await.body, "hello");
    let again = worker.hello().await;
    assert_eq!((again.pid, again.instance, again.generation), (hello.pid, hello.instance, 3));
    assert_eq!((again.ready, again.draining), (Some(ready), false));
    assert_eq!(within(front.fetch(get("/"))).await.body, "hello");
    worker.emperor.drain(60_000).await;
    assert!(matches!(within(front.next()).await, Some(Message::Draining(_))));
    front.half_close();
    assert_eq!(worker.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_python() {
    let app = r#"
def application(environ, start_response):
    while True:
        pass
"#;
    let mut worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    front.send(get("/")).await;
    worker.emperor.stop().await;
    assert_eq!(worker.exit_code().await, Some(0));
    assert!(!std::path::Path::new(&worker.spec.socket).exists());
}

#[tokio::test]
async fn sigterm_stops_a_child_of_the_app_but_not_the_worker() {
    let app = r#"
import os, signal, time

def application(environ, start_response):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    start_response("200 OK", [])
    return [b"%d" % os.WTERMSIG(status)]
"#;
    let worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    for _ in 0..3 {
        assert_eq!(within(front.fetch(get("/"))).await.body, "15");
    }
}

#[tokio::test]
async fn a_drain_has_a_deadline() {
    let app = r#"
def application(environ, start_response):
    open(environ["QUERY_STRING"], "w").close()
    while True:
        pass
"#;
    // Three limits: emperord's drain, a second signal, the app's stop time after the first signal.
    for way in ["drain", "signals", "stop"] {
        let stop_milliseconds = u32::from(way == "stop");
        let mut worker = App { stop_milliseconds, ..App::new(app) }.ready().await;
        let mut front = worker.front(1).await;
        let begun = worker.path("begun");
        front.send(get(&format!("/?{}", begun.display()))).await;
        within(async {
            while !begun.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        match way {
            "drain" => worker.emperor.drain(1).await,
            "stop" => terminate(&worker),
            _ => {
                terminate(&worker);
                assert!(matches!(within(front.next()).await, Some(Message::Draining(_))));
                terminate(&worker);
            }
        }
        assert_eq!(worker.exit_code().await, Some(0));
        let log = worker.log().await;
        assert!(log.contains("cutting requests in flight"), "{way}: {log}");
        assert_eq!(log.contains("grace=1ms"), way != "signals", "{way}: {log}");
    }
}

#[tokio::test]
async fn a_signal_is_handled_while_no_request_runs() {
    let app = r#"
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.signal(signal.SIGUSR2, lambda *_: 1 / 0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())

def application(environ, start_response):
    pass
"#;
    let mut worker = App::new(app).ready().await;
    for signal in [Signal::USR1, Signal::USR2] {
        let pid = Pid::from_raw(i32::try_from(worker.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
    worker.logs("handled").await;
    worker.logs("ZeroDivisionError").await;
    terminate(&worker);
    assert_eq!(worker.exit_code().await, Some(0));
    assert!(worker.log().await.contains("drained"));
}

#[tokio::test]
async fn the_apps_own_signal_handler_is_kept() {
    let app = r#"
import signal
signal.signal(signal.SIGTERM, lambda *_: print("handled by the app"))

def application(environ, start_response):
    signal.raise_signal(signal.SIGTERM)
    start_response("200 OK", [])
    return [b"still here"]
"#;
    let mut worker = App::new(app).ready().await;
    let mut front = worker.front(1).await;
    assert_eq!(within(front.fetch(get("/"))).await.body, "still here");
    worker.emperor.stop().await;
    assert_eq!(worker.exit_code().await, Some(0));
    assert!(worker.log().await.contains("handled by the app"));
}
