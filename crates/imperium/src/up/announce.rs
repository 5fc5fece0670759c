//! Waits until the stack is ready, and prints where the apps are.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::routes::routes_service_client::RoutesServiceClient;
use api::routes::watch_response::Update;
use api::routes::{App, WatchRequest};
use daemon::backoff::Backoff;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Status, Streaming};

use crate::addresses::Addresses;

/// Prints the URLs of the apps, and of those that come later.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) addresses: Addresses,
    /// emperord's.
    pub(crate) socket: PathBuf,
    /// The certificate of the local CA, where there is one.
    pub(crate) authority: Option<PathBuf>,
}

/// What was printed, by the apps' names.
type Printed = BTreeMap<String, Vec<String>>;

impl Announcer {
    /// Begins when frontd is ready; goes on until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        ready(self.addresses.admin).await;
        let mut printed = Printed::new();
        let mut authority = self.authority.as_deref();
        let mut backoff = Backoff::new();
        loop {
            // Whatever breaks the stream, emperord is being started again.
            if let Ok(mut updates) = watch(&self.socket).await {
                while let Ok(Some(update)) = updates.message().await {
                    backoff.reset();
                    print(&self.news(&mut printed, update.update));
                    print(&authority.take().map(authority_line).unwrap_or_default());
                }
            }
            backoff.wait().await;
        }
    }

    /// The lines of what an update brings.
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

/// Where the file really is: the folder that it is used from may be gone after this run.
fn authority_line(file: &Path) -> String {
    format!("CA  {}\n", file.canonicalize().as_deref().unwrap_or(file).display())
}

/// Waits until frontd says so.
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

async fn watch(socket: &Path) -> Result<Streaming<api::routes::WatchResponse>, Status> {
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

    fn app(name: &str, path: &str) -> App {
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
    fn an_app_is_told_once_until_its_url_changes() {
        let addresses = Addresses {
            http: Vec::new(),
            https: vec!["127.0.0.1:8443".parse().unwrap()],
            admin: "127.0.0.1:9180".parse().unwrap(),
        };
        let announcer = Announcer { addresses, socket: PathBuf::new(), authority: None };
        let mut printed = Printed::new();
        let mut check =
            |update, expected: &str| assert_eq!(announcer.news(&mut printed, Some(update)), expected);
        let (blog, cafe) = ("https://blog.localhost:8443/", "https://cafeteria.localhost:8443/");
        check(
            snapshot(&[app("blog", "/"), app("cafeteria", "/")]),
            &format!("blog       {blog}\ncafeteria  {cafe}\n"),
        );
        check(change(&[app("blog", "/")], &[]), "");
        check(change(&[app("blog", "/new")], &[]), &format!("blog  {blog}new/\n"));
        check(change(&[], &["blog"]), "");
        check(change(&[app("blog", "/new")], &[]), &format!("blog  {blog}new/\n"));
        check(snapshot(&[app("cafeteria", "/")]), "");
        check(snapshot(&[app("blog", "/")]), &format!("blog  {blog}\n"));
    }
}
