//! The routing table: maps a host and a path to an app.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::routes;
use bytes::Bytes;

use crate::action::files::{StaticFolder, Symlinks};
use crate::backend::Link;
use crate::backend::pool::{Admission, Pool};
use crate::observe::metrics::{AppMetrics, Metrics, PoolStats};

/// All routes. Each change creates a new table, which takes over the pools of the apps that remain.
#[derive(Debug, Default)]
pub(crate) struct Table {
    apps: Vec<Arc<App>>,
    /// By host name. A wildcard is stored without its `*`: `.example`, or the empty string for `*` alone.
    hosts: HashMap<Box<str>, Routes>,
    known: bool,
}

/// The apps of one host, the longest mount path first.
type Routes = Vec<Arc<App>>;

/// One app, as frontd knows it.
#[derive(Debug)]
pub(crate) struct App {
    name: Arc<str>,
    domains: Vec<String>,
    /// Without a trailing slash: empty for the root.
    mount: Bytes,
    workers: Vec<Worker>,
    static_folders: Folders,
    /// Folders whose files the app may send with X-Sendfile and the like.
    sendfile_folders: Folders,
    pool: Arc<Pool<Arc<Link>>>,
    metrics: AppMetrics,
    /// Why the app's newest version can't start, for developers.
    failure: Option<Box<StartFailure>>,
    pub(crate) limits: Limits,
}

/// Why an app can't start.
#[derive(Debug)]
pub(crate) struct StartFailure {
    /// The cause in one line, then the traceback.
    pub(crate) text: String,
    /// What happens next, as a sentence without a full stop.
    pub(crate) next: String,
}

/// The longest prefix first.
type Folders = Vec<Arc<StaticFolder>>;

/// Limits of one request to an app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time in the queue.
    pub(crate) queue: Duration,
    /// Time until the worker's response begins.
    pub(crate) request: Option<Duration>,
    /// Time between two chunks of a response body.
    pub(crate) idle: Option<Duration>,
    /// Size of the request body, in bytes.
    pub(crate) body: u64,
}

/// A worker that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) instance: u64,
    pub(crate) socket: PathBuf,
}

impl Table {
    /// Builds a table from `apps`. Apps that `former` has under the same name keep their pools, metrics and
    /// unchanged folders.
    pub(crate) fn new(apps: &[routes::App], former: &Self, metrics: &Metrics) -> Self {
        let kept: HashMap<&str, &Arc<App>> = former.apps.iter().map(|it| (&*it.name, it)).collect();
        let apps: Vec<_> = apps
            .iter()
            .map(|it| Arc::new(App::new(it, kept.get(it.name.as_str()).copied(), metrics)))
            .collect();
        for gone in former.apps.iter().filter(|old| apps.iter().all(|new| new.name != old.name)) {
            gone.pool.admit(Admission::Refuse(0));
        }
        let mut hosts: HashMap<Box<str>, Routes> = HashMap::new();
        for app in &apps {
            for domain in &app.domains {
                hosts.entry(domain.trim_start_matches('*').into()).or_default().push(Arc::clone(app));
            }
        }
        for routes in hosts.values_mut() {
            routes.sort_by_key(|it| std::cmp::Reverse(it.mount.len()));
        }
        Self { apps, hosts, known: true }
    }

    /// The app for a host (in lower case, without port) and a path.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<&Arc<App>> {
        // `*.example` matches exactly one label, `*` any host.
        let wider = memchr::memchr(b'.', host.as_bytes()).map(|dot| &host[dot..]);
        [Some(host), wider, Some("")]
            .into_iter()
            .flatten()
            .find_map(|it| self.hosts.get(it)?.iter().find(|app| app.contains(path)))
    }

    /// Whether the table was received from emperord or read from the disk.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    #[cfg(test)]
    pub(crate) fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }

    /// The state of each app's pool, by the app's name.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&str, PoolStats)> {
        self.apps.iter().map(|it| (it.name(), it.pool().stats()))
    }

    /// All workers, each with its app.
    pub(crate) fn workers(&self) -> impl Iterator<Item = (&Arc<App>, &Worker)> {
        self.apps.iter().flat_map(|app| app.workers.iter().map(move |worker| (app, worker)))
    }

    /// All pairs of a domain and a mount path, sorted.
    pub(crate) fn sites(&self) -> BTreeSet<(&str, &str)> {
        self.apps
            .iter()
            .flat_map(|app| app.domains.iter().map(|it| (it.as_str(), app.mount_text())))
            .collect()
    }

    /// The domains that need a certificate.
    pub(crate) fn domains(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.apps.iter().flat_map(|it| &it.domains).collect();
        names.into_iter().cloned().collect()
    }
}

impl App {
    fn new(app: &routes::App, former: Option<&Arc<Self>>, metrics: &Metrics) -> Self {
        let admission = match app.state() {
            routes::app::State::Failed => Admission::Refuse(app.queue_size as usize),
            _ => Admission::Queue(app.queue_size as usize),
        };
        let pool = former.map_or_else(|| Pool::new(admission), |it| Arc::clone(&it.pool));
        pool.admit(admission);
        let static_folders =
            folders(&app.static_folders, former.map(|it| &it.static_folders), StaticFolder::new);
        let sendfile_folders =
            folders(&app.sendfile_folders, former.map(|it| &it.sendfile_folders), StaticFolder::private);
        Self {
            name: app.name.as_str().into(),
            domains: app.domains.clone(),
            mount: Bytes::copy_from_slice(app.path.trim_end_matches('/').as_bytes()),
            workers: app.workers.iter().map(Worker::from).collect(),
            static_folders,
            sendfile_folders,
            pool,
            metrics: former.map_or_else(|| metrics.app(&app.name), |it| it.metrics.clone()),
            failure: start_failure(app),
            limits: Limits {
                queue: Duration::from_millis(app.queue_milliseconds.into()),
                request: limit(app.request_milliseconds),
                idle: limit(app.idle_milliseconds),
                body: app.body_limit,
            },
        }
    }

    fn contains(&self, path: &str) -> bool {
        path.as_bytes().strip_prefix(&*self.mount).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// The path that the app is mounted at, without a trailing slash: WSGI's `SCRIPT_NAME`.
    pub(crate) fn mount(&self) -> &Bytes {
        &self.mount
    }

    fn mount_text(&self) -> &str {
        // It was a string in the routing table.
        str::from_utf8(&self.mount).unwrap_or_default()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool<Arc<Link>>> {
        &self.pool
    }

    pub(crate) fn metrics(&self) -> &AppMetrics {
        &self.metrics
    }

    /// Why the app's newest version can't start. Only for developers.
    pub(crate) fn failure(&self) -> Option<&StartFailure> {
        self.failure.as_deref()
    }

    /// The folders that the app may send files from, the longest prefix first.
    pub(crate) fn sendfile_folders(&self) -> impl Iterator<Item = &StaticFolder> {
        self.sendfile_folders.iter().map(AsRef::as_ref)
    }

    /// The static folder that serves a path, and the path within it.
    pub(crate) fn static_file<'a>(&'a self, path: &'a str) -> Option<(&'a Arc<StaticFolder>, &'a str)> {
        self.static_folders.iter().find_map(|it| Some((it, it.rest(path)?)))
    }
}

/// Builds the folders, and keeps those of `former` that haven't changed, with their cached files.
fn folders(
    folders: &[routes::StaticFolder],
    former: Option<&Folders>,
    make: fn(&str, &Path, Symlinks) -> StaticFolder,
) -> Folders {
    let folder = |it: &routes::StaticFolder| {
        let (prefix, folder) = (it.prefix.as_str(), Path::new(&it.folder));
        let symlinks = if it.symlinks { Symlinks::Anywhere } else { Symlinks::Inside };
        let is_same = |it: &&Arc<StaticFolder>| {
            it.prefix() == prefix && it.folder() == folder && it.symlinks() == symlinks
        };
        let kept = former.and_then(|former| former.iter().find(is_same).cloned());
        kept.unwrap_or_else(|| Arc::new(make(prefix, folder, symlinks)))
    };
    let mut folders: Vec<_> = folders.iter().map(folder).collect();
    folders.sort_by_key(|it| std::cmp::Reverse(it.prefix().len()));
    folders
}

/// Converts milliseconds, where 0 means no limit.
fn start_failure(app: &routes::App) -> Option<Box<StartFailure>> {
    let routes::App { failure, failure_next, .. } = app;
    let failure = || Box::new(StartFailure { text: failure.clone(), next: failure_next.clone() });
    (!app.failure.is_empty()).then(failure)
}

fn limit(milliseconds: u32) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds.into())).filter(|it| !it.is_zero())
}

impl From<&routes::Worker> for Worker {
    fn from(worker: &routes::Worker) -> Self {
        let routes::Worker { name, instance, socket, capacity: _ } = worker;
        Self { name: name.clone(), instance: *instance, socket: socket.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, domains: &[&str], path: &str) -> routes::App {
        let domains = domains.iter().map(|it| (*it).to_owned()).collect();
        routes::App { name: name.to_owned(), domains, path: path.to_owned(), ..routes::App::default() }
    }

    #[test]
    fn routes_by_host_then_by_the_longest_path() {
        let apps = [
            app("site", &["example.org", "www.example.org"], "/"),
            app("blog", &["example.org"], "/blog"),
            app("drafts", &["example.org"], "/blog/drafts"),
            app("tenants", &["*.example.org"], "/"),
            app("any", &["*"], "/any"),
        ];
        let table = Table::new(&apps, &Table::default(), &Metrics::new());
        for (host, path, expected) in [
            ("example.org", "/", Some("site")),
            ("www.example.org", "/blog", Some("site")),
            ("example.org", "/blog", Some("blog")),
            ("example.org", "/blog/", Some("blog")),
            ("example.org", "/blog/drafts/1", Some("drafts")),
            ("example.org", "/blogs", Some("site")),
            ("a.example.org", "/", Some("tenants")),
            ("a.b.example.org", "/", None),
            ("a.b.example.org", "/any", Some("any")),
            ("example.com", "/", None),
            ("example.com", "/any/thing", Some("any")),
            ("a.example.org", "/any", Some("tenants")),
            ("www.example.org", "/any", Some("site")),
            ("", "/", None),
        ] {
            assert_eq!(table.route(host, path).map(|it| it.name()), expected, "{host}{path}");
        }
    }

    #[test]
    fn an_app_that_stays_keeps_its_pool() {
        let metrics = Metrics::new();
        let first = Table::new(&[app("a", &["a"], "/")], &Table::default(), &metrics);
        let second = Table::new(&[app("a", &["b"], "/"), app("c", &["c"], "/")], &first, &metrics);
        assert!(Arc::ptr_eq(first.apps[0].pool(), second.apps[0].pool()));
        assert!(second.route("a", "/").is_none());
    }
}
