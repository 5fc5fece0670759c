//! Tests of the services over a real socket, with a real driver.

use std::path::PathBuf;

use api::admin::admin_service_client::AdminServiceClient;
use api::admin::{ReloadRequest, StatusRequest};
use api::routes::WatchRequest;
use api::routes::routes_service_client::RoutesServiceClient;
use api::routes::watch_response::Update;
use api::worker::worker_service_client::WorkerServiceClient;
use api::worker::{AttachRequest, GetSpecRequest, Hello, Load, attach_request, attach_response};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;
use crate::driver::tests::emperor::{Emperor, Root};

mod flood;
mod reuse;

struct Served {
    root: Root,
    emperor: Emperor,
    socket: PathBuf,
    _folder: tempfile::TempDir,
    channel: Channel,
}

fn serve_one_app() -> Served {
    let root = Root::new();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("emperord.sock");
    let listener = daemon::uds::listen(&socket).unwrap();
    let tasks = TaskTracker::new();
    tasks.spawn(serve(listener, emperor.events(), tasks.clone(), 0, std::future::pending()));
    Served { root, emperor, _folder: folder, channel: daemon::uds::channel(&socket, |it| it), socket }
}

#[tokio::test]
async fn every_service_is_healthy_and_described() {
    let served = serve_one_app();
    let mut health = HealthClient::new(served.channel.clone());
    let services = [
        "imperium.admin.v1.AdminService",
        "imperium.routes.v1.RoutesService",
        "imperium.worker.v1.WorkerService",
    ];
    for service in services {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let list = MessageRequest::ListServices(String::new());
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut reflection = ServerReflectionClient::new(served.channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::iter([question])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!() };
    let described: Vec<&str> = list.service.iter().map(|it| it.name.as_str()).collect();
    assert!(services.iter().all(|it| described.contains(it)), "{described:?}");
}

#[tokio::test]
async fn the_status_lists_the_apps_and_unknown_names_are_refused() {
    let served = serve_one_app();
    served.emperor.app_until("blog", |it| it.wanted == 1).await;
    let mut admin = AdminServiceClient::new(served.channel.clone());
    let status = admin.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.apps[0].name.as_str(), status.apps[0].wanted), ("blog", 1));
    assert_eq!(status.apps[0].domains, ["blog.example"]);
    assert_eq!(status.pid, std::process::id());

    let refusal = admin.reload(ReloadRequest { app: "blgo".to_owned() }).await.unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.message()),
        (Code::NotFound, "there is no app `blgo`: choose one of blog")
    );
    let refusal = admin.reload(ReloadRequest { app: "../blog".to_owned() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn frontd_gets_a_snapshot_at_once() {
    let served = serve_one_app();
    let mut routes = RoutesServiceClient::new(served.channel.clone());
    let mut updates = routes.watch(WatchRequest { front: "test".to_owned() }).await.unwrap().into_inner();
    let first = updates.message().await.unwrap().unwrap();
    let Some(Update::Snapshot(snapshot)) = first.update else { panic!("{first:?}") };
    let app = &snapshot.apps[0];
    assert_eq!((app.name.as_str(), app.path.as_str()), ("blog", "/"));
    assert_eq!((app.queue_size, app.queue_milliseconds, app.request_milliseconds), (1000, 30_000, 60_000));
}

#[tokio::test]
async fn a_process_gets_only_its_own_spec() {
    let served = serve_one_app();
    served.emperor.app_until("blog", |it| !it.workers.is_empty()).await;
    let mut worker = WorkerServiceClient::new(served.channel.clone());
    let mut ask = async |worker_name: &str| {
        let request = GetSpecRequest { worker: worker_name.to_owned() };
        worker.get_spec(request).await.unwrap_err().code()
    };
    assert_eq!(ask("blog-1").await, Code::PermissionDenied);
    assert_eq!(ask("blog-2").await, Code::NotFound);
    assert_eq!(ask("blog").await, Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_without_a_valid_hello_is_refused() {
    let served = serve_one_app();
    let mut worker = WorkerServiceClient::new(served.channel.clone());
    let load = attach_request::Message::Load(Load::default());
    assert_eq!(attach(&mut worker, load).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(attach(&mut worker, hello("blog-1", 1)).await.unwrap_err().code(), Code::PermissionDenied);
    // Its identity is correct, but emperord didn't start it.
    let order = attach(&mut worker, hello("blog-1", std::process::id())).await.unwrap();
    assert!(matches!(order, Some(attach_response::Message::Stop(_))), "{order:?}");
}

/// The first response to a stream with one message.
async fn attach(
    worker: &mut WorkerServiceClient<Channel>,
    first: attach_request::Message,
) -> Result<Option<attach_response::Message>, Status> {
    let messages = tokio_stream::iter([AttachRequest { message: Some(first) }]);
    let mut orders = worker.attach(messages).await?.into_inner();
    Ok(orders.message().await?.and_then(|it| it.message))
}

fn hello(worker: &str, pid: u32) -> attach_request::Message {
    attach_request::Message::Hello(Hello { worker: worker.to_owned(), pid, ..Hello::default() })
}
