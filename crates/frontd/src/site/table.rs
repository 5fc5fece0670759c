//! The routing table: maps a host and a path to a site.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::routes;

use super::Site;
use crate::backend::pool::Admission;
use crate::backend::{Backend, Backends};
use crate::observe::metrics::{Metrics, PoolStats};

/// All sites. Each change creates a new table, which takes over the pools of the apps that remain.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sites: Vec<Arc<Site>>,
    /// By host name. A wildcard is stored without its `*`: `.example`, or the empty string for `*` alone.
    hosts: HashMap<Box<str>, Routes>,
    known: bool,
}

/// The sites of one host, the longest mount path first.
type Routes = Vec<Arc<Site>>;

impl Table {
    /// Builds a table from `apps`. Apps that `former` has under the same name keep their pools, metrics and
    /// unchanged folders.
    pub(crate) fn new(apps: &[routes::App], former: &Self, metrics: &Metrics) -> Self {
        let kept: HashMap<&str, &Arc<Site>> = former.sites.iter().map(|it| (it.name(), it)).collect();
        let site = |it: &routes::App| Site::new(it, kept.get(it.name.as_str()).map(|it| &***it), metrics);
        let sites: Vec<_> = apps.iter().map(|it| Arc::new(site(it))).collect();
        for gone in former.sites.iter().filter(|old| sites.iter().all(|new| new.name() != old.name())) {
            gone.backends().for_each(|it| it.pool.admit(Admission::Refuse(0)));
        }
        let mut hosts: HashMap<Box<str>, Routes> = HashMap::new();
        for site in &sites {
            for domain in site.domains() {
                hosts.entry(domain.trim_start_matches('*').into()).or_default().push(Arc::clone(site));
            }
        }
        for routes in hosts.values_mut() {
            routes.sort_by_key(|it| std::cmp::Reverse(it.mount().len()));
        }
        Self { sites, hosts, known: true }
    }

    /// The site for a host (in lower case, without port) and a path.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<&Arc<Site>> {
        // `*.example` matches exactly one label, `*` any host.
        let wider = memchr::memchr(b'.', host.as_bytes()).map(|dot| &host[dot..]);
        [Some(host), wider, Some("")]
            .into_iter()
            .flatten()
            .find_map(|it| self.hosts.get(it)?.iter().find(|site| site.contains(path)))
    }

    /// Whether the table was received from emperord or read from the disk.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// The state of each app's pool, by the app's name.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&str, PoolStats)> {
        self.backends().map(|it| (&*it.name, it.pool.stats()))
    }

    /// All pairs of a domain and a mount path, sorted.
    pub(crate) fn addresses(&self) -> BTreeSet<(&str, &str)> {
        self.sites
            .iter()
            .flat_map(|site| site.domains().iter().map(|it| (it.as_str(), site.mount())))
            .collect()
    }

    /// The domains that need a certificate.
    pub(crate) fn domains(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.sites.iter().flat_map(|it| it.domains()).collect();
        names.into_iter().cloned().collect()
    }
}

impl Backends for Table {
    fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.sites.iter().flat_map(|it| it.backends())
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
        let pool = |table: &Table| Arc::clone(&table.backends().next().unwrap().pool);
        assert!(Arc::ptr_eq(&pool(&first), &pool(&second)));
        assert!(second.route("a", "/").is_none());
    }
}
