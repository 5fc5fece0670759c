//! Other ASGI servers.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Stdio;

use anyhow::ensure;
use clap::ValueEnum;
use tests::grid::{Framework, ROOT_PATH, Site};
use tests::place::Place;
use tests::ports;
use tests::wait::until;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Uvicorn,
    Granian,
    Hypercorn,
}

/// Two processes of a peer: one at `/`, one with a root path. They end when this is dropped.
pub(crate) struct Served {
    site: Site,
    _processes: [Child; 2],
}

impl Deref for Served {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Peer {
    /// Starts the app, and waits until it is served.
    pub(crate) async fn serve(self, place: &Place, framework: Framework) -> anyhow::Result<Served> {
        let [http, mounted, _] = ports::free()?;
        let processes =
            [self.start(place, framework, http, "")?, self.start(place, framework, mounted, ROOT_PATH)?];
        for address in [http, mounted] {
            let accepts = async || Ok(TcpStream::connect(address).await.ok());
            until(&format!("{self:?} accepts connections at {address}"), accepts).await?;
        }
        let site = Site { framework, http, https: None, mounted: (mounted, self.prefix()) };
        Ok(Served { site, _processes: processes })
    }

    fn start(
        self,
        place: &Place,
        framework: Framework,
        address: SocketAddr,
        root_path: &str,
    ) -> anyhow::Result<Child> {
        let program = place.venv.join("bin").join(self.program());
        ensure!(
            program.exists(),
            "find {}: run `{}/bin/pip install {}`",
            program.display(),
            place.venv.display(),
            self.program()
        );
        let mut command = Command::new(program);
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        match self {
            Self::Uvicorn => {
                command.args(["--host", &host, "--port", &port, "--root-path", root_path]);
                command.args(["--loop", "uvloop", "--http", "httptools", "--no-proxy-headers"]);
            }
            Self::Granian => {
                command.args(["--host", &host, "--port", &port, "--interface", "asgi", "--loop", "uvloop"]);
                if !root_path.is_empty() {
                    command.args(["--url-path-prefix", root_path]);
                }
            }
            Self::Hypercorn => {
                command.args(["--bind", &address.to_string(), "--worker-class", "uvloop"]);
                command.args(["--root-path", root_path]);
            }
        }
        command.arg(framework.app).current_dir(place.apps.join("asgi"));
        command.env("PYTHONPATH", ".").env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(command.spawn()?)
    }

    /// What clients send before the path to an instance with a root path: uvicorn and hypercorn expect a proxy that
    /// removes it.
    fn prefix(self) -> &'static str {
        match self {
            Self::Uvicorn | Self::Hypercorn => "",
            Self::Granian => ROOT_PATH,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Uvicorn => "uvicorn",
            Self::Granian => "granian",
            Self::Hypercorn => "hypercorn",
        }
    }
}
