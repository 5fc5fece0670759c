//! Harm by files: a folder that is empty, a list of workers that is lost, a version that does not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tests::process;
use tokio::time::sleep;

use super::super::action::Action;
use super::super::site::App;
use super::Chaos;

/// More than emperord takes to see that files are gone.
const ABSENCE: Duration = Duration::from_secs(2);
const LIST: &str = "workers.json";

/// What becomes of the list of workers.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Gone,
    Damaged,
}

impl Chaos<'_> {
    /// Nothing that runs may end, and everything must be followed again when the files are back.
    pub(super) async fn empty_folder(&mut self) -> anyhow::Result<()> {
        for app in App::ALL {
            let file = self.stack.file(app.name());
            fs::remove_file(&file).with_context(|| format!("delete {}", file.display()))?;
        }
        sleep(ABSENCE).await;
        App::ALL.into_iter().try_for_each(|app| self.put(app))
    }

    /// As an unmounted folder looks.
    pub(super) async fn replace_folder(&mut self) -> anyhow::Result<()> {
        let folder = self.stack.root().join("vassals");
        let away = folder.with_extension("away");
        fs::rename(&folder, &away)?;
        fs::create_dir(&folder)?;
        sleep(ABSENCE).await;
        fs::remove_dir(&folder)?;
        fs::rename(&away, &folder).context("put the folder back")
    }

    /// Every worker that serves is adopted all the same, or drained; none is cut.
    pub(super) async fn lose_workers(&self, list: List) -> anyhow::Result<()> {
        let emperord = self.stack.daemon("emperord").await?;
        let path = find(self.stack.root(), LIST).with_context(|| format!("find {LIST}"))?;
        // It must not write another one before it is killed.
        process::signal(emperord, Signal::STOP)?;
        match list {
            List::Gone => fs::remove_file(&path)?,
            List::Damaged => fs::write(&path, "{ \"workers\": [")?,
        }
        process::signal(emperord, Signal::KILL)?;
        self.next_emperord(emperord).await
    }

    /// The app must not shrink for good: what serves is the last good version, and so is what replaces it.
    pub(super) async fn abandon_reload(&mut self, app: App, which: usize) -> anyhow::Result<()> {
        let broken = self.site.vassal(&self.stack.place, app).env("BROKEN", "1");
        self.stack.put(&broken)?;
        let is_told = |app: &tests::status::App| app.error().contains("broken on purpose");
        self.stack.until(app.name(), "the reload is abandoned", is_told).await?;
        self.kill(app, which).await.with_context(|| Action::Kill(app).to_string())?;
        let workers = self.site.settings(app).workers as usize;
        let is_full = |app: &tests::status::App| app.ready().len() >= workers;
        self.stack.until(app.name(), "the killed worker is replaced", is_full).await?;
        self.put(app)
    }
}

/// A file of that name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    let here = entries.iter().find(|it| it.file_name().is_some_and(|it| it == name)).cloned();
    here.or_else(|| entries.iter().filter(|it| it.is_dir()).find_map(|it| find(it, name)))
}
