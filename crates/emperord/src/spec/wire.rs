//! Converts a spec and a failure to and from their wire types, for control streams and templates.

use std::time::Duration;

use api::worker::{Failed, Spec, failed};
use config::emperord::Mode;
use vassal::{DEFAULT_CONCURRENCY, Domain, EventLoop, Interface, Preload, Vassal};

use super::{Failure, Reason, WorkerSpec};

/// The largest text that is accepted from a worker, in bytes.
const MAX_TEXT: usize = 64 * 1024;

pub(crate) fn spec(spec: &WorkerSpec) -> Spec {
    let vassal = &spec.vassal;
    Spec {
        vassal: vassal.name.to_string(),
        number: spec.number.into(),
        generation: spec.generation,
        app: vassal.app.to_string(),
        directory: vassal.directory.display().to_string(),
        python: vassal.python.path().display().to_string(),
        env: vassal.env.clone().into_iter().collect(),
        env_file: vassal.env_file.as_ref().map_or_else(String::new, |it| it.display().to_string()),
        threads: vassal.threads.into(),
        socket: spec.socket.display().to_string(),
        workers: vassal.workers.into(),
        health: vassal.health.as_ref().map_or_else(String::new, |it| it.as_str().to_owned()),
        host: host(vassal),
        script_name: vassal.path.as_str().trim_end_matches('/').to_owned(),
        sendfile_folders: vassal.sendfile_folders.values().map(|it| it.display().to_string()).collect(),
        start_milliseconds: milliseconds(vassal.timeouts.start),
        development: spec.mode == Mode::Development,
        recycle_memory: vassal.recycle.memory.unwrap_or_default(),
        preload_threads: vassal.preload == Preload::WithThreads,
        interface: interface(vassal.interface).into(),
        concurrency: vassal.concurrency.unwrap_or(DEFAULT_CONCURRENCY).into(),
        concurrency_given: vassal.concurrency.is_some(),
        r#loop: event_loop(&vassal.event_loop),
        websocket_drain_milliseconds: milliseconds(vassal.timeouts.websocket_drain),
        stop_milliseconds: u32::try_from(vassal.timeouts.stop.as_millis()).unwrap_or(u32::MAX).max(1),
    }
}

fn interface(interface: Interface) -> api::worker::Interface {
    match interface {
        Interface::Auto => api::worker::Interface::Unspecified,
        Interface::Wsgi => api::worker::Interface::Wsgi,
        Interface::Asgi => api::worker::Interface::Asgi,
    }
}

fn event_loop(event_loop: &EventLoop) -> String {
    match event_loop {
        EventLoop::Auto => String::new(),
        other => other.to_string(),
    }
}

/// A host that the app serves, as a client would send it.
fn host(vassal: &Vassal) -> String {
    let domain = vassal.domains.first().map_or("localhost", Domain::as_str);
    match domain.strip_prefix("*.") {
        Some(parent) => format!("www.{parent}"),
        None if domain == "*" => "localhost".to_owned(),
        None => domain.to_owned(),
    }
}

pub(crate) fn failure(failed: Failed) -> Failure {
    let reason = match failed.reason() {
        failed::Reason::Interpreter => Reason::Interpreter,
        failed::Reason::Import => Reason::Import,
        failed::Reason::Source => Reason::Source,
        failed::Reason::System | failed::Reason::Unspecified => Reason::System,
    };
    Failure { reason, message: bounded(failed.message), traceback: bounded(failed.traceback) }
}

/// Keeps the end of a text, which is most useful: that's where Python names the error.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.drain(..text.ceil_char_boundary(text.len() - MAX_TEXT));
    }
    text
}

pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
