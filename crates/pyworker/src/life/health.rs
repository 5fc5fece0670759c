//! Checks the app's health before this worker accepts requests.

use std::sync::Arc;
use std::time::Duration;

use api::runner::serve_response::Message;
use api::runner::{Connection, Header, Request, ServeResponse};
use api::worker::Spec;
use bytes::Bytes;
use pyo3::prelude::*;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};

use super::start_limit::{StartLimit, Step};
use super::state::WorkerState;
use crate::executor::Executor;
use crate::link::active::ActiveRequest;
use crate::link::session::Session;
use crate::python::driver::Driver;

const VERSION: u32 = 11;
const HTTPS: u32 = 443;
/// The wait after the first failure. It doubles after each one, up to `LONGEST_WAIT`.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Calls the app until it responds with 2xx. Other responses are reported to emperord, which stops this
/// worker when the time for its start is over.
pub(crate) fn wait_until_healthy(
    py: Python<'_>,
    executor: &impl Executor,
    driver: &Driver,
    spec: &Spec,
    state: &watch::Sender<WorkerState>,
    start_limit: &StartLimit,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let status = ask(py, executor, driver, spec, start_limit);
        if (200..300).contains(&status) {
            return;
        }
        let unwell = format!("its health path `{}` responds with {status}", spec.health);
        state.send_if_modified(|state| state.unwell.replace(unwell.clone()).as_ref() != Some(&unwell));
        // A timer can be created only inside the runtime.
        driver.wait_outside(py, async { tokio::time::sleep(wait).await });
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Returns the status of the response, or 0 if there was none.
fn ask(
    py: Python<'_>,
    executor: &impl Executor,
    driver: &Driver,
    spec: &Spec,
    start_limit: &StartLimit,
) -> u32 {
    let (session, sent) = Session::new(0, 0);
    let active = Arc::new(ActiveRequest::new(request(spec), Arc::new(session)));
    let (sender, status) = oneshot::channel();
    let listening = Arc::clone(&active);
    driver.spawn(async move {
        let _gone = sender.send(listen(sent, &listening).await);
    });
    let step = start_limit.step(Step::Health);
    let last = executor.call(py, &active);
    drop(step);
    active.session.send(last);
    let status = driver.wait_outside(py, status).unwrap_or_default();
    active.end();
    status
}

/// Acts as frontd until the message with the status arrives. If the body is streamed, the app is told that
/// the client has disconnected.
async fn listen(mut sent: UnboundedReceiver<ServeResponse>, active: &ActiveRequest) -> u32 {
    while let Some(ServeResponse { message }) = sent.recv().await {
        match message {
            Some(Message::Response(response)) => {
                if response.streamed {
                    active.cancel();
                }
                return response.status;
            }
            Some(Message::Done(_)) => break,
            _ => {}
        }
    }
    0
}

/// The request, as from a client of the app over HTTPS, so that the app doesn't redirect to HTTPS.
fn request(spec: &Spec) -> Request {
    let header = |name: &'static str, value: &str| Header {
        name: Bytes::from_static(name.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Request {
        id: 1,
        method: Bytes::from_static(b"GET"),
        target: Bytes::copy_from_slice(spec.health.as_bytes()),
        version: VERSION,
        headers: vec![header("host", &spec.host), header("user-agent", "imperium")],
        connection: Some(Connection {
            remote_address: Bytes::from_static(b"127.0.0.1"),
            remote_port: 0,
            tls: true,
        }),
        script_name: spec.script_name.clone().into(),
        server_name: spec.host.clone().into(),
        server_port: HTTPS,
        request_id: Bytes::from_static(b"health"),
        ..Request::default()
    }
}
