//! The gRPC services on emperord's socket. They convert between wire types and the driver's events.

mod admin;
mod admission;
mod incoming;
mod peer;
mod routes;
#[cfg(test)]
mod tests;
mod worker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::admin::admin_service_server::AdminServiceServer;
use api::routes::routes_service_server::RoutesServiceServer;
use api::worker::worker_service_server::WorkerServiceServer;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::Server;

use crate::messages::{Event, Events};
use admission::{Admission, ConnectionLimits};
use incoming::Incoming;

/// The largest message that is accepted, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// How often an idle peer is pinged. This detects frozen workers.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long it may take to answer. Workers also answer while Python is busy.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `stop` completes and all calls have ended. Members of the group `front` may follow the
/// routing table.
///
/// # Errors
/// If the descriptors of the services can't be read.
pub async fn serve(
    listener: UnixListener,
    events: Events,
    tasks: TaskTracker,
    front: u32,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let admission = Admission::new(ConnectionLimits::of_this_process(), front);
    let admin = admin::Admin { events: events.clone(), admission: Arc::clone(&admission) };
    let admin = AdminServiceServer::new(admin);
    let routes =
        RoutesServiceServer::new(routes::Routes { events: events.clone(), tasks: tasks.clone(), front });
    let worker = WorkerServiceServer::new(worker::Worker::new(events, tasks));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AdminServiceServer<admin::Admin>>().await;
    health.set_serving::<RoutesServiceServer<routes::Routes>>().await;
    health.set_serving::<WorkerServiceServer<worker::Worker>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(admin.max_decoding_message_size(MAX_MESSAGE))
        .add_service(routes.max_decoding_message_size(MAX_MESSAGE))
        .add_service(worker.max_decoding_message_size(MAX_MESSAGE))
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(Incoming::new(listener, admission), stop)
        .await?;
    Ok(())
}

/// Sends an event with a reply channel, and waits for the reply.
async fn ask<T>(events: &Events, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Status> {
    let (reply, answer) = oneshot::channel();
    events.send(event(reply)).await.map_err(|_| ending())?;
    answer.await.map_err(|_| ending())
}

fn ending() -> Status {
    Status::unavailable("emperord is ending")
}
