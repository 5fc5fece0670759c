//! Which site a request is for, and what that site does with it.

pub(crate) mod first_table;
mod rule;
pub(crate) mod table;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::routes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::first_table::FirstTable;
use self::rule::Rule;
use self::table::Table;
use crate::action::Action;
use crate::action::app::sticky::Affinity;
use crate::action::app::{App, StartFailure};
use crate::action::files::{StaticFolder, Symlinks};
use crate::action::reply::Reply;
use crate::backend::pool::{Admission, Pool};
use crate::backend::{Backend, Limits, Worker};
use crate::observe::metrics::{AppMetrics, Metrics};

/// The maximum size of a WebSocket message, if the routing table doesn't tell.
const DEFAULT_MESSAGE: usize = 16 << 20;

/// The domains of one app, and the path that it is mounted at.
#[derive(Debug)]
pub(crate) struct Site {
    name: Arc<str>,
    domains: Vec<String>,
    /// Without a trailing slash: empty for the root.
    mount: Box<str>,
    /// The first one that is for a path answers it. The last one is for all paths.
    rules: Vec<Rule>,
    policy: Policy,
}

/// What applies to all responses of a site, whatever produced them.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Counts them.
    pub(crate) metrics: AppMetrics,
}

impl Site {
    /// Builds the site of an app. It keeps what hasn't changed since `former`.
    fn new(app: &routes::App, former: Option<&Self>, metrics: &Metrics) -> Self {
        let former_files: Vec<_> =
            former.iter().flat_map(|it| it.actions()).filter_map(Action::files).collect();
        let former_app = former.and_then(|it| it.apps().next());
        let files = folders(&app.static_folders, &former_files, StaticFolder::new);
        let mut rules: Vec<_> =
            files.into_iter().map(|it| Rule::new(it.prefix().into(), Action::Files(it))).collect();
        rules.push(Rule::for_all(Action::App(Box::new(new_app(app, former_app)))));
        Self {
            name: app.name.as_str().into(),
            domains: app.domains.clone(),
            mount: app.path.trim_end_matches('/').into(),
            rules,
            policy: Policy {
                metrics: former.map_or_else(|| metrics.app(&app.name), |it| it.policy.metrics.clone()),
            },
        }
    }

    /// The app's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What answers requests for a path, and the part of the path that its rule leaves open.
    pub(crate) fn action<'a>(&'a self, path: &'a str) -> Option<(&'a Action, &'a str)> {
        self.rules.iter().find_map(|it| Some((it.action(), it.rest(path)?)))
    }

    /// All backends that its actions use.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.apps().map(App::backend)
    }

    fn domains(&self) -> &[String] {
        &self.domains
    }

    fn mount(&self) -> &str {
        &self.mount
    }

    fn contains(&self, path: &str) -> bool {
        path.strip_prefix(&*self.mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn actions(&self) -> impl Iterator<Item = &Action> {
        self.rules.iter().map(Rule::action)
    }

    fn apps(&self) -> impl Iterator<Item = &App> {
        self.actions().filter_map(Action::app)
    }
}

fn new_app(app: &routes::App, former: Option<&App>) -> App {
    let size = app.queue_size as usize;
    let admission = match app.state() {
        routes::app::State::Failed => Admission::Refuse(size),
        _ => Admission::Queue(size),
    };
    let pool = former.map_or_else(|| Pool::new(admission), |it| Arc::clone(&it.backend().pool));
    pool.admit(admission);
    let backend = Backend {
        name: app.name.as_str().into(),
        workers: app.workers.iter().map(worker).collect(),
        pool,
        limits: Limits {
            queue: Duration::from_millis(app.queue_milliseconds.into()),
            request: limit(app.request_milliseconds),
            idle: limit(app.idle_milliseconds),
            body: app.body_limit,
            message: match app.message_limit {
                0 => DEFAULT_MESSAGE,
                limit => usize::try_from(limit).unwrap_or(usize::MAX),
            },
        },
    };
    let former: Vec<_> = former.iter().flat_map(|it| it.files()).collect();
    let files = folders(&app.sendfile_folders, &former, StaticFolder::private);
    let failure = (!app.failure.is_empty())
        .then(|| StartFailure { text: app.failure.clone(), next: app.failure_next.clone() });
    App::new(backend, app.path.trim_end_matches('/'), files, failure, Affinity::of(app.sticky))
}

fn worker(worker: &routes::Worker) -> Worker {
    let routes::Worker { name, instance, socket, capacity: _ } = worker;
    Worker { name: name.clone(), instance: *instance, endpoint: socket.as_str().into() }
}

/// Builds the folders, and keeps those of `former` that haven't changed, with their cached files.
fn folders(
    folders: &[routes::StaticFolder],
    former: &[&Arc<StaticFolder>],
    make: fn(&str, &Path, Symlinks) -> StaticFolder,
) -> Vec<Arc<StaticFolder>> {
    let folder = |it: &routes::StaticFolder| {
        let (prefix, folder) = (it.prefix.as_str(), Path::new(&it.folder));
        let symlinks = if it.symlinks { Symlinks::Anywhere } else { Symlinks::Inside };
        let is_same = |it: &&Arc<StaticFolder>| {
            it.prefix() == prefix && it.folder() == folder && it.symlinks() == symlinks
        };
        let kept = former.iter().copied().find(is_same).cloned();
        kept.unwrap_or_else(|| Arc::new(make(prefix, folder, symlinks)))
    };
    let mut folders: Vec<_> = folders.iter().map(folder).collect();
    folders.sort_by_key(|it| std::cmp::Reverse(it.prefix().len()));
    folders
}

/// Converts milliseconds, where 0 means no limit.
fn limit(milliseconds: u32) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds.into())).filter(|it| !it.is_zero())
}

/// The sites, as one shard looks them up.
#[derive(Debug)]
pub(crate) struct Sites {
    tables: watch::Receiver<Arc<Table>>,
    first_table: Arc<FirstTable>,
    drain: CancellationToken,
}

impl Sites {
    pub(crate) fn new(
        tables: watch::Receiver<Arc<Table>>,
        first_table: Arc<FirstTable>,
        drain: CancellationToken,
    ) -> Self {
        Self { tables, first_table, drain }
    }

    /// Finds the site for a host and a path. Until the first routing table is known, waits for it.
    ///
    /// # Errors
    ///
    /// Returns the reply to send if there is no site, or no routing table in time.
    pub(crate) async fn find(&self, host: &str, path: &str) -> Result<Arc<Site>, Reply> {
        if let Some(site) = self.route(host, path) {
            return Ok(site);
        }
        if !self.tables.borrow().is_known() && !self.first_table.wait(self.tables.clone(), &self.drain).await
        {
            return Err(Reply::NotReady);
        }
        self.route(host, path).ok_or(Reply::NoApp)
    }

    /// The current routing table.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.tables.borrow())
    }

    /// The site for a host and a path in the current table.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<Arc<Site>> {
        self.tables.borrow().route(host, path).cloned()
    }
}
