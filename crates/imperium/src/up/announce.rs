//! Waits until the stack is ready, and prints the apps' URLs.

mod one_app;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::routes::routes_service_client::RoutesServiceClient;
use api::routes::watch_response::Update;
use api::routes::{App, WatchRequest, WatchResponse};
use daemon::backoff::Backoff;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Status, Streaming};

use self::one_app::Told;
use super::late_virtualenv::{self, LateVirtualenv};
use crate::addresses::Addresses;

/// Prints the URLs of the apps, and of those that are added later.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) addresses: Addresses,
    /// emperord's socket.
    pub(crate) socket: PathBuf,
    /// The certificate of the local CA, if there is one.
    pub(crate) authority: Option<PathBuf>,
    pub(crate) style: Style,
    pub(crate) on_failure: OnFailure,
    pub(crate) late_virtualenv: Option<LateVirtualenv>,
}

/// What to do if the app of `up APP` can't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Wait: a change of its files, or a later attempt, may fix it.
    Wait,
    /// Exit.
    End,
}

/// The app of `up APP` can't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CannotStart;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A table of all apps, updated when apps are added.
    Apps,
    /// The URL of the one app once it serves, how to stop it, and what follows a failure.
    OneApp,
}

/// The printed URLs, by the apps' names.
type Printed = BTreeMap<String, Vec<String>>;

impl Announcer {
    /// Starts once frontd is ready. Returns only if the app can't start and that ends the run.
    pub(crate) async fn run(mut self) -> CannotStart {
        if let Some(admin) = self.addresses.admin {
            ready(admin).await;
        }
        let (mut printed, mut told) = (Printed::new(), Told::default());
        let mut authority = self.authority.clone();
        let mut backoff = Backoff::new();
        loop {
            // The stream breaks when emperord exits, and it is being restarted.
            if let Ok(mut updates) = watch(&self.socket).await {
                while let Some(update) = self.next(&mut updates, &told).await {
                    backoff.reset();
                    if self.style == Style::OneApp {
                        let update = update.update.as_ref();
                        if !told.has_served && self.is_end(update) {
                            return CannotStart;
                        }
                        print(&self.one_app(&mut told, update));
                        continue;
                    }
                    print(&self.news(&mut printed, update.update));
                    print(&authority.take().map(|it| authority_line(&it)).unwrap_or_default());
                }
            }
            backoff.wait().await;
        }
    }

    /// Returns the next update. While the app can't start, looks for a virtualenv.
    async fn next(&mut self, updates: &mut Streaming<WatchResponse>, told: &Told) -> Option<WatchResponse> {
        loop {
            let is_looking = self.late_virtualenv.is_some() && told.is_failing();
            tokio::select! {
                update = updates.message() => return update.ok().flatten(),
                () = tokio::time::sleep(late_virtualenv::INTERVAL), if is_looking => {}
            }
            if let Some(line) = self.late_virtualenv.as_ref().and_then(LateVirtualenv::look) {
                print(&line);
                self.late_virtualenv = None;
            }
        }
    }

    /// The lines to print for an update.
    fn news(&self, printed: &mut Printed, update: Option<Update>) -> String {
        let changed = match update {
            Some(Update::Snapshot(snapshot)) => {
                printed.retain(|name, _| snapshot.apps.iter().any(|it| it.name == *name));
                snapshot.apps
            }
            Some(Update::Change(change)) => {
                printed.retain(|name, _| !change.removed.contains(name));
                change.changed
            }
            None => Vec::new(),
        };
        let width = changed.iter().map(|it| it.name.len()).max().unwrap_or_default();
        changed.into_iter().map(|app| self.lines(printed, app, width)).collect()
    }

    fn lines(&self, printed: &mut Printed, app: App, width: usize) -> String {
        let urls = self.addresses.urls(&app.domains, &app.path);
        let lines = urls.iter().map(|url| format!("{:<width$}  {url}\n", app.name)).collect();
        match printed.insert(app.name, urls.clone()) {
            Some(before) if before == urls => String::new(),
            _ => lines,
        }
    }
}

fn authority_line(file: &Path) -> String {
    format!("CA  {}\n", real_path(file))
}

/// The actual path of the file, since the root of `up APP` is removed afterwards.
fn real_path(file: &Path) -> String {
    file.canonicalize().as_deref().unwrap_or(file).display().to_string()
}

async fn ready(admin: SocketAddr) {
    let mut backoff = Backoff::new();
    while !is_ready(admin).await.unwrap_or(false) {
        backoff.wait().await;
    }
}

async fn is_ready(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n").await?;
    let mut status = [0; b"HTTP/1.x 200".len()];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 200"))
}

async fn watch(socket: &Path) -> Result<Streaming<WatchResponse>, Status> {
    let mut emperord = RoutesServiceClient::new(daemon::uds::channel(socket, |it| it));
    Ok(emperord.watch(WatchRequest { front: "imperium up".to_owned() }).await?.into_inner())
}

fn print(lines: &str) {
    daemon::output::stdout().write(lines.as_bytes().to_vec());
}

#[cfg(test)]
mod tests {
    use api::routes::{Change, Snapshot};

    use super::*;

    fn named(name: &str, path: &str) -> App {
        App {
            name: name.to_owned(),
            domains: vec![format!("{name}.localhost")],
            path: path.to_owned(),
            ..App::default()
        }
    }

    fn snapshot(apps: &[App]) -> Update {
        Update::Snapshot(Snapshot { apps: apps.to_vec() })
    }

    fn change(changed: &[App], removed: &[&str]) -> Update {
        let removed = removed.iter().map(|&it| it.to_owned()).collect();
        Update::Change(Change { changed: changed.to_vec(), removed })
    }

    #[test]
    fn an_app_is_printed_once_per_url() {
        let addresses = Addresses {
            http: Vec::new(),
            https: vec!["127.0.0.1:8443".parse().unwrap()],
            admin: Some("127.0.0.1:9180".parse().unwrap()),
        };
        let announcer = Announcer {
            addresses,
            socket: PathBuf::new(),
            authority: None,
            style: Style::Apps,
            on_failure: OnFailure::Wait,
            late_virtualenv: None,
        };
        let mut printed = Printed::new();
        let mut check =
            |update, expected: &str| assert_eq!(announcer.news(&mut printed, Some(update)), expected);
        let (blog, cafe) = ("https://blog.localhost:8443/", "https://cafeteria.localhost:8443/");
        check(
            snapshot(&[named("blog", "/"), named("cafeteria", "/")]),
            &format!("blog       {blog}\ncafeteria  {cafe}\n"),
        );
        check(change(&[named("blog", "/")], &[]), "");
        check(change(&[named("blog", "/new")], &[]), &format!("blog  {blog}new/\n"));
        check(change(&[], &["blog"]), "");
        check(change(&[named("blog", "/new")], &[]), &format!("blog  {blog}new/\n"));
        check(snapshot(&[named("cafeteria", "/")]), "");
        check(snapshot(&[named("blog", "/")]), &format!("blog  {blog}\n"));
    }
}
