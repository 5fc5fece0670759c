//! The status as JSON. Keys are added over time, but never removed.

use api::admin::{App, StatusResponse, Worker};
use serde::Serialize;

use super::state_name;
use crate::addresses::Addresses;

#[derive(Serialize)]
struct Status<'a> {
    emperord: Emperord<'a>,
    metrics: Option<String>,
    apps: Vec<AppStatus<'a>>,
}

#[derive(Serialize)]
struct Emperord<'a> {
    pid: u32,
    version: &'a str,
    refused_connections: u64,
}

#[derive(Serialize)]
struct AppStatus<'a> {
    name: &'a str,
    state: String,
    file: &'a str,
    urls: Vec<String>,
    domains: &'a [String],
    path: &'a str,
    wanted: u32,
    generation: u64,
    last_error: &'a str,
    app: &'a str,
    app_was_found: bool,
    recycled: u64,
    last_recycled: &'a str,
    notices: &'a [String],
    workers: Vec<WorkerStatus<'a>>,
}

#[derive(Serialize)]
struct WorkerStatus<'a> {
    name: &'a str,
    state: String,
    pid: u32,
    busy: u32,
    capacity: u32,
    requests: u64,
    memory: u64,
    age_milliseconds: u64,
    generation: u64,
    python: &'a str,
    leaving: &'a str,
    interface: &'a str,
    r#loop: &'a str,
    sockets: u32,
    messages: u64,
    lag_milliseconds: u32,
    tasks: u32,
    sockets_end_milliseconds: Option<u64>,
}

/// Renders the status as an indented JSON object.
///
/// # Errors
/// If serialization fails.
pub(super) fn render(status: &StatusResponse, addresses: &Addresses) -> serde_json::Result<String> {
    let emperord = Emperord {
        pid: status.pid,
        version: &status.version,
        refused_connections: status.refused_connections,
    };
    let apps = status.apps.iter().map(|it| AppStatus::new(it, addresses)).collect();
    let metrics = addresses.metrics();
    Ok(serde_json::to_string_pretty(&Status { emperord, metrics, apps })? + "\n")
}

impl<'a> AppStatus<'a> {
    fn new(app: &'a App, addresses: &Addresses) -> Self {
        Self {
            name: &app.name,
            state: state_name(app.state().as_str_name()),
            file: &app.file,
            urls: addresses.urls(&app.domains, &app.path),
            domains: &app.domains,
            path: &app.path,
            wanted: app.wanted,
            generation: app.generation,
            last_error: &app.last_error,
            app: &app.app,
            app_was_found: app.app_was_found,
            recycled: app.recycled,
            last_recycled: &app.last_recycled,
            notices: &app.notices,
            workers: app.workers.iter().map(WorkerStatus::new).collect(),
        }
    }
}

impl<'a> WorkerStatus<'a> {
    fn new(worker: &'a Worker) -> Self {
        Self {
            name: &worker.name,
            state: state_name(worker.state().as_str_name()),
            pid: worker.pid,
            busy: worker.busy,
            capacity: worker.capacity,
            requests: worker.requests,
            memory: worker.memory,
            age_milliseconds: worker.age_milliseconds,
            generation: worker.generation,
            python: &worker.python,
            leaving: &worker.leaving,
            interface: &worker.interface,
            r#loop: &worker.r#loop,
            sockets: worker.sockets,
            messages: worker.messages,
            lag_milliseconds: worker.lag_milliseconds,
            tasks: worker.tasks,
            sockets_end_milliseconds: worker.sockets_end_milliseconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use api::admin::{app, worker};

    use super::*;

    fn example() -> String {
        let worker = Worker {
            name: "blog-1".to_owned(),
            state: worker::State::Ready.into(),
            pid: 12,
            generation: 2,
            busy: 1,
            capacity: 4,
            requests: 9,
            memory: 1024,
            age_milliseconds: 5000,
            python: "CPython 3.11.7".to_owned(),
            leaving: "to be recycled: it is 60 s old".to_owned(),
            interface: "asgi".to_owned(),
            r#loop: "uvloop".to_owned(),
            sockets: 12,
            messages: 345,
            lag_milliseconds: 3,
            tasks: 14,
            sockets_end_milliseconds: Some(3_540_000),
        };
        let app = App {
            name: "blog".to_owned(),
            state: app::State::BackingOff.into(),
            file: "/r/vassals/blog.toml".to_owned(),
            domains: vec!["blog.localhost".to_owned()],
            path: "/".to_owned(),
            wanted: 2,
            workers: vec![worker],
            last_error: "it broke".to_owned(),
            generation: 2,
            app: "app.py".to_owned(),
            app_was_found: true,
            recycled: 1,
            last_recycled: "worker blog-2 was recycled: it is 60 s old".to_owned(),
            notices: vec!["1 of 2 workers missing: the next start is in 3 s".to_owned()],
            file_digest: None,
        };
        let status =
            StatusResponse { apps: vec![app], pid: 7, version: "0.1.0".to_owned(), refused_connections: 3 };
        let addresses = Addresses {
            http: Vec::new(),
            https: vec!["127.0.0.1:8443".parse().unwrap()],
            admin: Some("127.0.0.1:9180".parse().unwrap()),
        };
        render(&status, &addresses).unwrap()
    }

    #[test]
    fn all_keys_are_present() {
        let expected = serde_json::json!({
            "emperord": { "pid": 7, "version": "0.1.0", "refused_connections": 3 },
            "metrics": "http://127.0.0.1:9180/-/metrics",
            "apps": [{
                "name": "blog", "state": "backing_off", "file": "/r/vassals/blog.toml",
                "urls": ["https://blog.localhost:8443/"], "domains": ["blog.localhost"], "path": "/",
                "wanted": 2, "generation": 2, "last_error": "it broke",
                "app": "app.py", "app_was_found": true,
                "recycled": 1, "last_recycled": "worker blog-2 was recycled: it is 60 s old",
                "notices": ["1 of 2 workers missing: the next start is in 3 s"],
                "workers": [{
                    "name": "blog-1", "state": "ready", "pid": 12, "busy": 1, "capacity": 4, "requests": 9,
                    "memory": 1024, "age_milliseconds": 5000, "generation": 2, "python": "CPython 3.11.7",
                    "leaving": "to be recycled: it is 60 s old", "interface": "asgi", "loop": "uvloop",
                    "sockets": 12, "messages": 345, "lag_milliseconds": 3, "tasks": 14,
                    "sockets_end_milliseconds": 3_540_000,
                }],
            }],
        });
        let rendered: serde_json::Value = serde_json::from_str(&example()).unwrap();
        assert_eq!(rendered, expected);
    }

    /// The descriptions of the keys in the reference.
    const MEANINGS: &[(&str, &str)] = &[
        ("emperord.pid", "process id of emperord"),
        ("emperord.version", "its version"),
        ("emperord.refused_connections", "connections that it refused because a user had too many"),
        ("metrics", "URL of the metrics; `null` under systemd, where each `frontd@N` has its own address"),
        ("apps[].name", "name of the app: the name of its file without `.toml`"),
        (
            "apps[].state",
            "`starting`; `running`; `reloading`: serving while new workers take over; `backing_off`: too few workers \
             serve, and the next start waits; `failed`: none serves, and only an edit or a reload helps, or clients are \
             shown an error in development; `stopping`",
        ),
        ("apps[].file", "path of its file"),
        ("apps[].urls[]", "URLs that it is served at"),
        ("apps[].domains[]", "`domains` of its file"),
        ("apps[].path", "`path` of its file"),
        ("apps[].wanted", "number of workers that should be running"),
        ("apps[].generation", "counts the versions of the app: a reload starts the next generation"),
        (
            "apps[].last_error",
            "why the last start failed, or what is wrong with its file; empty if nothing is",
        ),
        ("apps[].app", "the app that is served, such as `blog.wsgi:application`"),
        ("apps[].app_was_found", "whether Imperium chose it, because the file has no `app`"),
        (
            "apps[].recycled",
            "number of workers that were replaced because of `recycle`, since emperord started",
        ),
        ("apps[].last_recycled", "which worker was the last one, and why"),
        ("apps[].notices[]", "what else the operator should know"),
        ("apps[].workers[].name", "name of the worker, as in the log"),
        ("apps[].workers[].state", "`starting`, `ready`, `draining` or `stopping`"),
        ("apps[].workers[].pid", "process id"),
        ("apps[].workers[].busy", "requests that it is handling"),
        (
            "apps[].workers[].capacity",
            "requests that it can handle at the same time: `threads`, or `concurrency`",
        ),
        ("apps[].workers[].requests", "requests that it has handled"),
        ("apps[].workers[].memory", "resident memory in bytes"),
        ("apps[].workers[].age_milliseconds", "age of the process in milliseconds"),
        ("apps[].workers[].generation", "version of the app that it runs"),
        ("apps[].workers[].python", "its interpreter, such as `CPython 3.11.7`"),
        ("apps[].workers[].leaving", "why it is going to be replaced; empty if it isn't"),
        ("apps[].workers[].interface", "`wsgi` or `asgi`; empty before it is ready"),
        ("apps[].workers[].loop", "its event loop, such as `uvloop`; empty if it has none"),
        ("apps[].workers[].sockets", "open WebSockets"),
        ("apps[].workers[].messages", "WebSocket messages in both directions since the process was started"),
        (
            "apps[].workers[].lag_milliseconds",
            "longest time within the last second that its event loop didn't respond, in milliseconds",
        ),
        ("apps[].workers[].tasks", "asyncio's tasks, including the app's own"),
        (
            "apps[].workers[].sockets_end_milliseconds",
            "how long the open WebSockets may still keep a draining worker; `null` if none do",
        ),
    ];

    #[test]
    fn the_reference_is_up_to_date() {
        let mut keys = Vec::new();
        leaves("", &serde_json::from_str(&example()).unwrap(), &mut keys);
        keys.sort();
        let mut described: Vec<_> = MEANINGS.iter().map(|(key, _)| (*key).to_owned()).collect();
        described.sort();
        assert_eq!(described, keys.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
        let mut text = "| key | type | meaning |\n|---|---|---|\n".to_owned();
        for (key, meaning) in MEANINGS {
            let (_, kind) = keys.iter().find(|(it, _)| it == key).unwrap();
            text += &format!("| `{key}` | {kind} | {meaning} |\n");
        }
        let page = reference::Page::of("docs/reference/status.md");
        page.has("keys", &text);
    }

    /// Collects the paths of all scalar values, with their types.
    fn leaves(path: &str, value: &serde_json::Value, found: &mut Vec<(String, &'static str)>) {
        match value {
            serde_json::Value::Object(object) => {
                for (key, value) in object {
                    let dot = if path.is_empty() { "" } else { "." };
                    leaves(&format!("{path}{dot}{key}"), value, found);
                }
            }
            serde_json::Value::Array(array) => leaves(&format!("{path}[]"), &array[0], found),
            serde_json::Value::String(_) => found.push((path.to_owned(), "string")),
            serde_json::Value::Bool(_) => found.push((path.to_owned(), "boolean")),
            _ => found.push((path.to_owned(), "number")),
        }
    }
}
