//! Asks emperord what to run, or reports why that fails.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::worker::failed::Reason;
use api::worker::worker_service_client::WorkerServiceClient;
use api::worker::{AttachRequest, Failed, GetSpecRequest, Hello, Spec, attach_request};
use daemon::backoff::Backoff;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How long to try to report a failure while emperord is down.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// The connection of one worker to emperord.
#[derive(Debug)]
pub(crate) struct Emperor {
    client: WorkerServiceClient<Channel>,
    worker: String,
}

impl Emperor {
    /// Creates a client that connects to `socket` with the first call.
    pub(crate) fn new(socket: &Path, worker: String) -> Self {
        Self { client: WorkerServiceClient::new(daemon::uds::channel(socket, |it| it)), worker }
    }

    /// Asks for the spec. Waits while emperord is down.
    pub(crate) async fn spec(&self) -> anyhow::Result<Spec> {
        let mut backoff = Backoff::new();
        loop {
            match self.client.clone().get_spec(GetSpecRequest { worker: self.worker.clone() }).await {
                Ok(response) => {
                    return response
                        .into_inner()
                        .spec
                        .context("ask emperord for the spec: the response has none");
                }
                Err(status) if status.code() == Code::Unavailable => {
                    tracing::debug!(reason = status.message(), "emperord is away");
                    backoff.wait().await;
                }
                Err(status) => bail!("ask emperord for the spec: {}", status.message()),
            }
        }
    }

    /// Reports that the worker can't run. If emperord stays down, only the exit status tells it.
    pub(crate) async fn report(&self, reason: Reason, message: String) {
        let failed = Failed { reason: reason.into(), message, traceback: String::new() };
        let reported = timeout(REPORT_LIMIT, async {
            let mut backoff = Backoff::new();
            while let Err(status) = self.attach(failed.clone()).await {
                tracing::debug!(reason = status.message(), "emperord is away");
                backoff.wait().await;
            }
        });
        if reported.await.is_err() {
            tracing::warn!("cannot reach emperord to report the failure");
        }
    }

    async fn attach(&self, failed: Failed) -> Result<(), Status> {
        let hello = Hello {
            worker: self.worker.clone(),
            pid: std::process::id(),
            instance: instance(),
            ..Hello::default()
        };
        let messages = [attach_request::Message::Hello(hello), attach_request::Message::Failed(failed)]
            .map(|message| AttachRequest { message: Some(message) });
        let mut answers = self.client.clone().attach(tokio_stream::iter(messages)).await?.into_inner();
        // emperord closes the stream once it has read all messages.
        while answers.message().await?.is_some() {}
        Ok(())
    }
}

/// Distinguishes this process from others with the same name.
fn instance() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
