//! Caddy in front of an app server.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::guard::Guard;
use crate::site::{HOST, Site};

/// The configuration of a Caddy.
#[derive(Debug)]
pub(super) struct Caddy<'a> {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    /// The socket of the app server.
    pub(super) socket: &'a Path,
}

impl Caddy<'_> {
    /// Starts it. All its files are in `folder`.
    pub(super) fn start(&self, site: &Site, folder: &Path) -> anyhow::Result<Guard> {
        let file = folder.join("Caddyfile");
        fs::write(&file, self.config(site)).with_context(|| format!("write {}", file.display()))?;
        let mut caddy = Command::new(site.place.venv.join("bin/caddy"));
        caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        caddy.envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, folder)));
        Guard::start("caddy", &caddy, folder)
    }

    /// It keeps as many connections to the app server as nginx. It logs no requests by default.
    fn config(&self, site: &Site) -> String {
        let (http, https) = (self.http.port(), self.https.port());
        let certificate = site.certificate();
        format!(
            "{{
  admin off
  auto_https off
  persist_config off
  servers {{
    protocols h1 h2
  }}
}}
(app) {{
  handle_path /static/* {{
    root {files}
    file_server
  }}
  reverse_proxy unix/{socket} {{
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
http://{HOST}:{http} {{
  import app
}}
https://{HOST}:{https} {{
  tls {certificate} {certificate}
  import app
}}
",
            files = site.files().display(),
            socket = self.socket.display(),
            certificate = certificate.display(),
        )
    }
}
