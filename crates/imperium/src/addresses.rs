//! frontd's addresses, and the URLs of apps at them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{FrontdConfig, Layout};
use serde::{Deserialize, Serialize};

use crate::refused::Refused;

/// The addresses that frontd listens on.
///
/// `imperium up` can override those of `frontd.toml`. It writes the actual ones next to emperord's socket,
/// where the other commands find them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    /// Where frontd answers probes and metrics. None if `imperium up` doesn't run it: each of systemd's units has its
    /// own address then, whatever `frontd.toml` says.
    pub(crate) admin: Option<SocketAddr>,
}

impl Addresses {
    /// Returns the addresses in use: those that `up` wrote next to emperord's socket, otherwise those of
    /// `frontd.toml`.
    pub(crate) fn of(socket: &Path, layout: &Layout) -> miette::Result<Self> {
        let written = fs::read(file(socket)).ok().and_then(|it| serde_json::from_slice(&it).ok());
        match written {
            Some(addresses) => Ok(addresses),
            None => {
                let config = FrontdConfig::load(layout).map_err(|it| Refused::new("frontd.toml", it))?;
                Ok(Self { http: config.http, https: config.https, admin: None })
            }
        }
    }

    /// Writes the addresses for the other commands.
    pub(crate) fn write(&self, socket: &Path) -> io::Result<()> {
        fs::write(file(socket), serde_json::to_vec(self)?)
    }

    /// Removes the file that `write` has written, if there is one.
    pub(crate) fn remove(socket: &Path) {
        let _was_never_written = fs::remove_file(file(socket));
    }

    /// Returns the URL of frontd's metrics, if it is known.
    pub(crate) fn metrics(&self) -> Option<String> {
        self.admin.map(|it| format!("http://{it}/-/metrics"))
    }

    /// Returns the app's URLs, one per domain and scheme, HTTPS first.
    pub(crate) fn urls(&self, domains: &[String], path: &str) -> Vec<String> {
        let each = |scheme: Scheme, address: Option<&SocketAddr>| {
            let url = |domain: &String| address.map(|address| scheme.url(domain, *address, path));
            domains.iter().filter_map(url).collect::<Vec<_>>()
        };
        let https = each(Scheme::Https, self.https.first());
        https.into_iter().chain(each(Scheme::Http, self.http.first())).collect()
    }
}

fn file(socket: &Path) -> PathBuf {
    socket.with_file_name("addresses.json")
}

#[derive(Clone, Copy)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn url(self, domain: &str, address: SocketAddr, path: &str) -> String {
        let (scheme, default_port) = match self {
            Self::Http => ("http", 80),
            Self::Https => ("https", 443),
        };
        let host = if domain == "*" { self.any_host(address) } else { domain.to_owned() };
        let port = Some(address.port()).filter(|it| *it != default_port);
        let port = port.map(|it| format!(":{it}")).unwrap_or_default();
        format!("{scheme}://{host}{port}{}/", path.trim_end_matches('/'))
    }

    /// The host in the URL of an app that answers for any host. For HTTPS it is a name, since certificates
    /// are issued for names.
    fn any_host(self, address: SocketAddr) -> String {
        match (self, address) {
            (Self::Https, _) => "localhost".to_owned(),
            (_, address) if address.ip().is_unspecified() => "localhost".to_owned(),
            (_, SocketAddr::V4(address)) => address.ip().to_string(),
            (_, SocketAddr::V6(address)) => format!("[{}]", address.ip()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(http: &[&str], https: &[&str], domains: &[&str], path: &str, expected: &[&str]) {
        let parse = |them: &[&str]| them.iter().map(|it| it.parse().unwrap()).collect();
        let addresses = Addresses { http: parse(http), https: parse(https), admin: None };
        let domains: Vec<_> = domains.iter().map(|&it| it.to_owned()).collect();
        assert_eq!(addresses.urls(&domains, path), expected);
    }

    #[test]
    fn urls() {
        let (http, https): (&[_], &[_]) = (&["127.0.0.1:8080"], &["127.0.0.1:8443"]);
        check(http, https, &["a.localhost"], "/", &["https://a.localhost:8443/", "http://a.localhost:8080/"]);
        check(http, &[], &["a.localhost"], "/blog", &["http://a.localhost:8080/blog/"]);
        check(&[], https, &["a.b", "c.d"], "/", &["https://a.b:8443/", "https://c.d:8443/"]);
        check(&["[::]:80"], &["[::]:443"], &["a.b"], "/", &["https://a.b/", "http://a.b/"]);
        check(&["[::]:443"], &["[::]:80"], &["a.b"], "/", &["https://a.b:80/", "http://a.b:443/"]);
        check(http, https, &["*"], "/", &["https://localhost:8443/", "http://127.0.0.1:8080/"]);
        check(&["0.0.0.0:8080"], &[], &["*"], "/", &["http://localhost:8080/"]);
        check(&["[::1]:8080"], &[], &["*"], "/x", &["http://[::1]:8080/x/"]);
        check(http, https, &["*.a.b"], "/", &["https://*.a.b:8443/", "http://*.a.b:8080/"]);
        check(&["10.0.0.1:8080", "10.0.0.2:8080"], &[], &["*"], "/", &["http://10.0.0.1:8080/"]);
        check(http, https, &[], "/", &[]);
    }

    #[test]
    fn addresses_written_by_up_apply_until_they_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path()).unwrap();
        let socket = layout.emperord_socket();
        let in_file = Addresses::of(&socket, &layout).unwrap();
        let [http, admin] = ["127.0.0.1:1", "127.0.0.1:2"].map(|it| it.parse().unwrap());
        let written = Addresses { http: vec![http], admin: Some(admin), ..in_file.clone() };
        fs::create_dir(&layout.run).unwrap();
        written.write(&socket).unwrap();
        let found = Addresses::of(&socket, &layout).unwrap();
        assert_eq!(found, written);
        assert_eq!(found.metrics().as_deref(), Some("http://127.0.0.1:2/-/metrics"));
        Addresses::remove(&socket);
        assert_eq!(Addresses::of(&socket, &layout).unwrap(), in_file);
    }

    /// Under systemd, the units override `admin`, and there may be several of them.
    #[test]
    fn the_url_of_the_metrics_is_not_taken_from_frontd_toml() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path()).unwrap();
        fs::write(layout.frontd_toml(), "admin = '127.0.0.1:9'\n").unwrap();
        assert_eq!(Addresses::of(&layout.emperord_socket(), &layout).unwrap().metrics(), None);
    }
}
