//! The compatibility grid: runs the cells of `tests/grid` against an app, whatever server serves it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::place::Place;

/// A framework, and the app that has all behaviours of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framework {
    /// In lower case, as the cells know it.
    pub name: &'static str,
    /// Its module and callable in `tests/apps/asgi`.
    pub app: &'static str,
    /// Whether its app supports the lifespan protocol.
    pub has_lifespan: bool,
}

/// All frameworks of the grid.
pub const FRAMEWORKS: [Framework; 6] = [
    Framework { name: "blacksheep", app: "on_blacksheep:app", has_lifespan: true },
    Framework { name: "django", app: "on_django.asgi:application", has_lifespan: false },
    Framework { name: "fastapi", app: "on_fastapi:app", has_lifespan: true },
    Framework { name: "litestar", app: "on_litestar:app", has_lifespan: true },
    Framework { name: "quart", app: "on_quart:app", has_lifespan: true },
    Framework { name: "starlette", app: "on_starlette:app", has_lifespan: true },
];

/// The bare app, for the group `bare`.
pub const BARE: Framework = Framework { name: "bare", app: "bare:application", has_lifespan: true };

/// The root path of the second instance of an app, for the group `mount`.
pub const ROOT_PATH: &str = "/mounted";

impl Framework {
    /// The framework with that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let names = FRAMEWORKS.map(|it| it.name).join(", ");
        let found = FRAMEWORKS.into_iter().find(|it| it.name == name);
        found.with_context(|| format!("{name} isn't one of {names}"))
    }

    /// The host name of its app.
    #[must_use]
    pub fn host(self) -> String {
        format!("{}.localhost", self.name)
    }
}

/// Where an app is served.
#[derive(Debug, Clone)]
pub struct Site {
    /// The framework of the app.
    pub framework: Framework,
    /// The address for plain HTTP.
    pub http: SocketAddr,
    /// The address for HTTPS, and the file of the CA.
    pub https: Option<(SocketAddr, PathBuf)>,
    /// The address of the instance with a root path, and what clients send before the path there.
    pub mounted: (SocketAddr, &'static str),
}

/// What a run has to check.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The groups of cells, separated by commas: `http`, `mount`, `tls`, `http2`, `websocket`, `websocket-tls`,
    /// `websocket-http2`, `bare`.
    pub groups: &'a str,
    /// The protocol of ordinary requests: `plain`, `tls` or `http2`.
    pub protocol: &'a str,
    /// A regular expression for the names of the cells.
    pub only: &'a str,
}

/// The outcome of one cell.
#[derive(Debug, Clone, Deserialize)]
pub struct Cell {
    /// The name of the behaviour.
    pub cell: String,
    /// Whether the app has the behaviour on this server.
    pub outcome: Outcome,
    /// Why it failed, or why the framework lacks it.
    pub message: String,
}

/// What became of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The behaviour is right.
    Ok,
    /// It isn't.
    Failed,
    /// The framework lacks it, on every server.
    None,
}

impl Site {
    /// Runs the cells with the Python of the apps' virtualenv.
    ///
    /// # Errors
    /// If they can't be run. A cell that fails isn't an error.
    pub async fn check(&self, place: &Place, selection: Selection<'_>) -> anyhow::Result<Vec<Cell>> {
        let mut python = Command::new(place.venv.join("bin/python"));
        python.args(["-m", "grid", "--app", self.framework.name, "--host", &self.framework.host()]);
        python.args(["--http", &self.http.to_string()]);
        python.args(["--mounted", &self.mounted.0.to_string(), "--prefix", self.mounted.1]);
        if let Some((address, ca)) = &self.https {
            python.args(["--https", &address.to_string(), "--ca"]).arg(ca);
        }
        let Selection { groups, protocol, only } = selection;
        python.args(["--groups", groups, "--protocol", protocol, "--only", only]);
        // The folder of the package, which other users' runs share.
        python.env("PYTHONPATH", place.apps.join("..")).env("PYTHONDONTWRITEBYTECODE", "1");
        python.stdin(Stdio::null()).kill_on_drop(true);
        let output = python.output().await.context("run the cells of the grid")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the cells of the grid ended with {}: {stderr}", output.status);
        let lines = String::from_utf8(output.stdout)?;
        let cells: Result<Vec<Cell>, _> = lines.lines().map(serde_json::from_str).collect();
        let cells = cells.with_context(|| format!("read the outcome of the cells in {lines:?}"))?;
        ensure!(!cells.is_empty(), "no cell is in the groups {groups} and matches {only:?}");
        Ok(cells)
    }
}

/// The cells that failed, one a line.
#[must_use]
pub fn failures(cells: &[Cell]) -> Vec<String> {
    let failed = cells.iter().filter(|it| it.outcome == Outcome::Failed);
    failed.map(|it| format!("{}: {}", it.cell, it.message)).collect()
}
