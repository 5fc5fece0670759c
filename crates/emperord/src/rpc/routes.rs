//! The service for frontd: the routing table and its changes.

use std::path::Path;

use api::routes::app::State;
use api::routes::routes_service_server::RoutesService;
use api::routes::watch_response::Update;
use api::routes::{App, Change, Snapshot, StaticFolder, WatchRequest, WatchResponse, Worker};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use vassal::{StaticPrefix, Sticky, Symlinks};

use super::ask;
use super::peer::Peer;
use crate::messages::{Event, Events};
use crate::routes::{self, Changed, Route, RouteState, Watch};
use crate::spec::milliseconds;

/// The number of updates that may wait for a frontd that doesn't read them.
const BACKLOG: usize = 16;

pub(super) struct Routes {
    pub(super) events: Events,
    pub(super) tasks: TaskTracker,
    /// frontd's group.
    pub(super) front: u32,
}

type Updates = mpsc::Sender<Result<WatchResponse, Status>>;

#[tonic::async_trait]
impl RoutesService for Routes {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Peer::of(&request)?.check_may_watch(self.front)?;
        let front = request.into_inner().front;
        let watch = ask(&self.events, |reply| Event::Watch { reply }).await?;
        tracing::debug!(front, version = watch.version, "frontd follows the routing table");
        let (updates, stream) = mpsc::channel(BACKLOG);
        let events = self.events.downgrade();
        self.tasks.spawn(async move {
            let mut watch = Some(watch);
            while let Some(current) = watch {
                let End::Lagged = send_updates(current, &updates).await else { break };
                let Some(events) = events.upgrade() else { break };
                watch = ask(&events, |reply| Event::Watch { reply }).await.ok();
            }
            tracing::debug!(front, "frontd disconnected from emperord");
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Why a watch has ended.
enum End {
    /// The watcher was too slow and needs a new snapshot.
    Lagged,
    /// frontd disconnected from emperord, or emperord is exiting.
    Left,
}

async fn send_updates(watch: Watch, updates: &Updates) -> End {
    let Watch { version, routes, mut changes } = watch;
    let apps = routes.iter().map(|it| app(it)).collect();
    let snapshot = WatchResponse { version, update: Some(Update::Snapshot(Snapshot { apps })) };
    if updates.send(Ok(snapshot)).await.is_err() {
        return End::Left;
    }
    loop {
        let next = tokio::select! {
            next = changes.recv() => next.map(change),
            () = updates.closed() => return End::Left,
        };
        match next {
            Ok(update) => {
                if updates.send(Ok(update)).await.is_err() {
                    return End::Left;
                }
            }
            Err(RecvError::Lagged(_)) => return End::Lagged,
            Err(RecvError::Closed) => return End::Left,
        }
    }
}

fn change(change: routes::Change) -> WatchResponse {
    let update = match change.what {
        Changed::Route(route) => Change { changed: vec![app(&route)], removed: Vec::new() },
        Changed::Removed(name) => Change { changed: Vec::new(), removed: vec![name.to_string()] },
    };
    WatchResponse { version: change.version, update: Some(Update::Change(update)) }
}

fn app(route: &Route) -> App {
    let vassal = &route.vassal;
    let folder = |prefix: &StaticPrefix, folder: &Path, symlinks| StaticFolder {
        prefix: prefix.to_string(),
        folder: folder.display().to_string(),
        symlinks,
    };
    let failure = route.failure.as_ref();
    let static_folders = vassal.static_folders.iter();
    let sendfile_folders = vassal.sendfile_folders.iter();
    App {
        name: vassal.name.to_string(),
        state: state(route.state).into(),
        domains: vassal.domains.iter().map(ToString::to_string).collect(),
        path: vassal.path.to_string(),
        workers: route.workers.iter().map(worker).collect(),
        static_folders: static_folders
            .map(|(prefix, it)| folder(prefix, &it.path, it.symlinks == Symlinks::Anywhere))
            .collect(),
        queue_size: vassal.queue.size,
        queue_milliseconds: milliseconds(vassal.queue.timeout),
        // A limit is at least a millisecond, since 0 means none.
        request_milliseconds: vassal.timeouts.request.map_or(0, |it| milliseconds(it).max(1)),
        idle_milliseconds: vassal.timeouts.idle.map_or(0, |it| milliseconds(it).max(1)),
        body_limit: vassal.limits.body,
        sendfile_folders: sendfile_folders.map(|(prefix, it)| folder(prefix, it, false)).collect(),
        failure: failure.map_or_else(String::new, |it| it.text.to_string()),
        failure_next: failure.map_or_else(String::new, |it| it.next.to_owned()),
        message_limit: vassal.limits.message,
        sticky: vassal.sticky == Sticky::Cookie,
    }
}

fn state(state: RouteState) -> State {
    match state {
        RouteState::Starting => State::Starting,
        RouteState::Serving => State::Serving,
        RouteState::Failed => State::Failed,
    }
}

fn worker((name, serving): &(api::WorkerName, crate::state::Serving)) -> Worker {
    Worker {
        name: name.to_string(),
        instance: serving.instance,
        socket: serving.endpoint.to_string(),
        capacity: serving.capacity,
    }
}
