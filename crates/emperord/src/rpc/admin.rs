//! The service for the command line.

use std::sync::Arc;
use std::time::Duration;

use api::VassalName;
use api::admin::admin_service_server::AdminService;
use api::admin::app::State as AppState;
use api::admin::worker::State as WorkerState;
use api::admin::{
    App, ForgetRequest, ForgetResponse, ReloadRequest, ReloadResponse, ScaleRequest, ScaleResponse,
    ShutdownRequest, ShutdownResponse, StatusRequest, StatusResponse, Worker,
};
use supervise::{Phase, Stage};
use tonic::{Request, Response, Status};
use vassal::ChosenBy;

use super::admission::Admission;
use super::ask;
use super::peer::Peer;
use crate::messages::{AdminError, AppStatus, Event, Events, WorkerStatus};

/// How long the check for existing folders may take.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Admin {
    pub(super) events: Events,
    pub(super) admission: Arc<Admission>,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Peer::of(&request)?.check_full_access()?;
        let status = ask(&self.events, |reply| Event::Status { reply }).await?;
        Ok(Response::new(StatusResponse {
            apps: with_disk(status.apps).await.into_iter().map(app).collect(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            refused_connections: self.admission.refused(),
        }))
    }

    async fn scale(&self, request: Request<ScaleRequest>) -> Result<Response<ScaleResponse>, Status> {
        Peer::of(&request)?.check_full_access()?;
        let ScaleRequest { app, workers } = request.into_inner();
        let app = name(&app)?;
        ask(&self.events, |reply| Event::Scale { app, workers, reply }).await?.map_err(|it| refusal(&it))?;
        Ok(Response::new(ScaleResponse {}))
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        Peer::of(&request)?.check_full_access()?;
        let app = name(&request.into_inner().app)?;
        ask(&self.events, |reply| Event::Reload { app, reply }).await?.map_err(|it| refusal(&it))?;
        Ok(Response::new(ReloadResponse {}))
    }

    async fn forget(&self, request: Request<ForgetRequest>) -> Result<Response<ForgetResponse>, Status> {
        Peer::of(&request)?.check_full_access()?;
        let apps = request.into_inner().apps.iter().map(|it| name(it)).collect::<Result<_, _>>()?;
        let forgotten = ask(&self.events, |reply| Event::Forget { apps, reply }).await?;
        let apps = forgotten.map_err(|it| refusal(&it))?.iter().map(ToString::to_string).collect();
        Ok(Response::new(ForgetResponse { apps }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        Peer::of(&request)?.check_full_access()?;
        ask(&self.events, |reply| Event::Shutdown { reply }).await?;
        Ok(Response::new(ShutdownResponse {}))
    }
}

/// Adds what needs disk access. If the disk hangs, returns the status without it: the operator may want it
/// just then.
async fn with_disk(apps: Vec<AppStatus>) -> Vec<AppStatus> {
    let mut looked_at = apps.clone();
    let look = tokio::task::spawn_blocking(move || {
        looked_at.iter_mut().for_each(AppStatus::look_at_disk);
        looked_at
    });
    match tokio::time::timeout(DISK_TIMEOUT, look).await {
        Ok(Ok(looked_at)) => looked_at,
        Ok(Err(_)) | Err(_) => apps,
    }
}

fn name(app: &str) -> Result<VassalName, Status> {
    VassalName::parse(app).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn refusal(error: &AdminError) -> Status {
    let text = error.to_string();
    match error {
        AdminError::NoSuchApp { .. } => Status::not_found(text),
        AdminError::ShuttingDown => Status::unavailable(text),
        AdminError::Superseded { .. } => Status::aborted(text),
        AdminError::NotMissing { .. } => Status::failed_precondition(text),
        AdminError::File(_) | AdminError::Scale(_) | AdminError::Start(_) | AdminError::Removed(_) => {
            Status::failed_precondition(text)
        }
    }
}

fn app(app: AppStatus) -> App {
    let (callable, chosen_by) = app.app.unwrap_or((String::new(), ChosenBy::Operator));
    App {
        app: callable,
        app_was_found: chosen_by == ChosenBy::Folder,
        recycled: app.recycled.count,
        last_recycled: app.recycled.last,
        name: app.name,
        state: app_state(app.phase).into(),
        file: app.file.display().to_string(),
        domains: app.domains,
        path: app.path,
        wanted: app.wanted.into(),
        workers: app.workers.into_iter().map(worker).collect(),
        last_error: app.last_error,
        generation: app.generation,
        notices: app.notices,
        file_digest: Some(app.file_digest),
    }
}

fn app_state(phase: Phase) -> AppState {
    match phase {
        Phase::Starting => AppState::Starting,
        Phase::Running => AppState::Running,
        Phase::Reloading => AppState::Reloading,
        Phase::BackingOff => AppState::BackingOff,
        Phase::Failed => AppState::Failed,
        Phase::Stopping => AppState::Stopping,
    }
}

fn worker(worker: WorkerStatus) -> Worker {
    Worker {
        name: worker.name.to_string(),
        state: worker_state(worker.stage).into(),
        pid: worker.pid,
        generation: worker.generation,
        busy: worker.load.busy,
        capacity: worker.capacity,
        requests: worker.load.requests,
        memory: worker.load.memory,
        age_milliseconds: milliseconds(worker.age),
        python: worker.python,
        leaving: worker.leaving,
        interface: worker.interface.as_str().to_owned(),
        r#loop: worker.event_loop,
        sockets: worker.load.sockets,
        messages: worker.load.messages,
        lag_milliseconds: worker.load.lag_milliseconds,
        tasks: worker.load.tasks,
        sockets_end_milliseconds: worker.sockets_end.map(milliseconds),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn worker_state(stage: Stage) -> WorkerState {
    match stage {
        Stage::Starting { .. } => WorkerState::Starting,
        Stage::Ready { .. } => WorkerState::Ready,
        Stage::Draining(_) => WorkerState::Draining,
        Stage::Stopping { .. } => WorkerState::Stopping,
    }
}
