//! nginx, carefully configured in front of an app server.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit};

use crate::guard::Guard;
use crate::program;
use crate::site::Site;

/// How it communicates with the app server, which listens on a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The uwsgi protocol.
    Uwsgi,
    /// HTTP/1.1 over keep-alive connections.
    Http,
}

/// The configuration of an nginx.
#[derive(Debug)]
pub(super) struct Nginx<'a> {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) upstream: Upstream,
    pub(super) socket: &'a Path,
    /// How many connections of clients it may have to keep.
    pub(super) connections: u32,
}

/// The connections of one of its processes, unless it has to keep more.
const CONNECTIONS: u32 = 4096;
const OPEN_FILES: u64 = 8192;

impl Nginx<'_> {
    /// Starts it. All its files are in `folder`.
    pub(super) fn start(&self, site: &Site, folder: &Path) -> anyhow::Result<Guard> {
        let file = folder.join("nginx.conf");
        fs::write(&file, self.config(site, folder)).with_context(|| format!("write {}", file.display()))?;
        let mut nginx = Command::new(program::find("nginx").context("nginx is not installed")?);
        nginx.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("error.log"));
        Guard::start("nginx", &nginx, folder)
    }

    /// `reuseport` distributes connections evenly, and was faster here, as were two processes for two cores.
    /// Open files are cached, as for any site with traffic. Bodies of a few KiB stay in memory. The TLS settings
    /// are the same as frontd's. Processes don't get equally many connections, and each takes two: one to the
    /// client, and one to the app.
    fn config(&self, site: &Site, folder: &Path) -> String {
        let Self { http, https, .. } = self;
        let user = if rustix::process::geteuid().is_root() { "user root root;\n" } else { "" };
        format!(
            "{user}daemon off;
worker_processes 2;
worker_rlimit_nofile {files_open};
pid nginx.pid;
events {{ worker_connections {connections}; }}
http {{
  types {{ application/octet-stream bin; text/css css; }}
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  open_file_cache max=1000 inactive=60s;
  client_body_buffer_size 128k;
{temporary}
  ssl_certificate {certificate};
  ssl_certificate_key {certificate};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  ssl_session_tickets on;
  upstream app {{ server unix:{socket}; keepalive 256; }}
  server {{
    listen {http} reuseport backlog=4096;
    listen {https} ssl http2 reuseport backlog=4096;
    location /static/ {{ alias {files}/; }}
    location / {{
{pass}    }}
{sockets}  }}
}}
",
            temporary = temporary(folder),
            connections = CONNECTIONS.max(2 * self.connections),
            files_open = OPEN_FILES.max(u64::from(2 * self.connections)).min(most_files()),
            sockets = self.upstream.sockets(),
            certificate = site.certificate().display(),
            socket = self.socket.display(),
            files = site.files().display(),
            pass = self.upstream.pass(),
        )
    }
}

impl Upstream {
    fn pass(self) -> String {
        match self {
            Self::Uwsgi => {
                UWSGI_PARAMS.iter().fold("uwsgi_pass app;\n".to_owned(), |mut text, (name, value)| {
                    let _never = writeln!(text, "uwsgi_param {name} {value};");
                    text
                })
            }
            Self::Http => format!("{HTTP}proxy_set_header Connection \"\";\n"),
        }
    }

    /// The location of WebSockets, which keeps the connection's header and idle connections.
    fn sockets(self) -> String {
        match self {
            Self::Uwsgi => String::new(),
            Self::Http => format!("    location /ws/ {{\n{HTTP}{UPGRADE}    }}\n"),
        }
    }
}

/// The limit of open files that it may raise its own to.
fn most_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// The content of nginx's `uwsgi_params` file.
const UWSGI_PARAMS: [(&str, &str); 14] = [
    ("QUERY_STRING", "$query_string"),
    ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("REQUEST_URI", "$request_uri"),
    ("PATH_INFO", "$document_uri"),
    ("DOCUMENT_ROOT", "$document_root"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"),
    ("HTTPS", "$https if_not_empty"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("SERVER_PORT", "$server_port"),
    ("SERVER_NAME", "$server_name"),
];

const HTTP: &str = "proxy_pass http://app;
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
";

const UPGRADE: &str = "proxy_set_header Connection upgrade;
proxy_set_header Upgrade $http_upgrade;
proxy_read_timeout 1h;
";

/// Its own temporary folders, so that it needs no privileges.
fn temporary(folder: &Path) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].iter().fold(String::new(), |mut text, name| {
        let _never = writeln!(text, "  {name}_temp_path {}/{name};", folder.display());
        text
    })
}
