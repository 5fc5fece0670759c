//! The status for programs; keys are only ever added.

use api::admin::{App, StatusResponse, Worker};
use serde::Serialize;

use super::state_name;
use crate::addresses::Addresses;

#[derive(Serialize)]
struct Status<'a> {
    emperord: Emperord<'a>,
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
}

/// One object, on lines of its own.
///
/// # Errors
/// When it cannot be said in JSON.
pub(super) fn render(status: &StatusResponse, addresses: &Addresses) -> serde_json::Result<String> {
    let emperord = Emperord {
        pid: status.pid,
        version: &status.version,
        refused_connections: status.refused_connections,
    };
    let apps = status.apps.iter().map(|it| AppStatus::new(it, addresses)).collect();
    Ok(serde_json::to_string_pretty(&Status { emperord, apps })? + "\n")
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
        }
    }
}

#[cfg(test)]
mod tests {
    use api::admin::{app, worker};

    use super::*;

    #[test]
    fn every_key_is_there() {
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
        };
        let status =
            StatusResponse { apps: vec![app], pid: 7, version: "0.1.0".to_owned(), refused_connections: 3 };
        let addresses = Addresses {
            http: Vec::new(),
            https: vec!["127.0.0.1:8443".parse().unwrap()],
            admin: "127.0.0.1:9180".parse().unwrap(),
        };
        let expected = serde_json::json!({
            "emperord": { "pid": 7, "version": "0.1.0", "refused_connections": 3 },
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
                    "leaving": "to be recycled: it is 60 s old",
                }],
            }],
        });
        let rendered: serde_json::Value =
            serde_json::from_str(&render(&status, &addresses).unwrap()).unwrap();
        assert_eq!(rendered, expected);
    }
}
