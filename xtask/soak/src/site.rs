//! The apps under test, and their current settings.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tests::place::Place;
use tests::vassal::Vassal;

/// The time limit of a request until its response starts.
pub(crate) const LIMIT: Duration = Duration::from_secs(3);

/// The apps do the same, and are run in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum App {
    /// One thread per worker, recycled by number of requests.
    Single,
    /// Several threads per worker, recycled by age.
    Threads,
    /// Forked from a template, recycled by number of requests.
    Forked,
    /// On an event loop, recycled by number of requests.
    Async,
}

impl App {
    pub(crate) const ALL: [Self; 4] = [Self::Single, Self::Threads, Self::Forked, Self::Async];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Threads => "threads",
            Self::Forked => "forked",
            Self::Async => "async",
        }
    }

    pub(crate) const fn has_websockets(self) -> bool {
        matches!(self, Self::Async)
    }

    fn keys(self) -> &'static str {
        match self {
            Self::Single => "recycle = { requests = 1500, jitter = \"30%\" }",
            Self::Threads => "threads = 4\nrecycle = { lifetime = \"12s\", jitter = \"30%\" }",
            Self::Forked => "recycle = { requests = 800, jitter = \"50%\" }",
            Self::Async => "concurrency = 60\nrecycle = { requests = 1500, jitter = \"30%\" }",
        }
    }

    /// The folder of its program.
    fn folder(self) -> &'static str {
        if self == Self::Async { "asgi" } else { "wsgi" }
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The apps' files, as they should be.
pub(crate) struct Site {
    folder: TempDir,
    settings: [Settings; App::ALL.len()],
}

/// The settings that change in an app's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) workers: u32,
    pub(crate) import: Import,
}

/// Where an app is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Import {
    InEachWorker,
    InATemplate,
}

impl Import {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::InEachWorker => Self::InATemplate,
            Self::InATemplate => Self::InEachWorker,
        }
    }
}

impl Site {
    /// Creates a folder for the workers' journals.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("imperium-soak-").tempdir();
        let settings = App::ALL.map(|app| {
            let import = if app == App::Forked { Import::InATemplate } else { Import::InEachWorker };
            Settings { workers: 3, import }
        });
        Ok(Self { folder: folder.context("make a folder for the journals")?, settings })
    }

    /// The folder of the workers' journals.
    pub(crate) fn journals(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn settings(&mut self, app: App) -> &mut Settings {
        &mut self.settings[app as usize]
    }

    /// The files of all apps.
    pub(crate) fn vassals(&self, place: &Place) -> [Vassal; App::ALL.len()] {
        App::ALL.map(|app| self.vassal(place, app))
    }

    /// The file of an app.
    pub(crate) fn vassal(&self, place: &Place, app: App) -> Vassal {
        let Settings { workers, import } = self.settings[app as usize];
        let preload = import == Import::InATemplate;
        Vassal::new(app.name(), &place.apps.join(app.folder()), "soak")
            .workers(workers)
            .env("JOURNALS", &self.folder.path().display().to_string())
            .key(&format!("preload = {preload}"))
            .key(app.keys())
            .table(&format!("[timeouts]\nrequest = \"{}s\"\nstop = \"10s\"", LIMIT.as_secs()))
    }
}
