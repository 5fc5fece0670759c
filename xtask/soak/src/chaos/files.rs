//! Missing and damaged files: an empty folder, a lost state file, a version that doesn't start.

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

/// Longer than emperord needs to notice missing files.
const ABSENCE: Duration = Duration::from_secs(2);
const LIST: &str = "workers.json";

/// What happens to the state file.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Gone,
    Damaged,
}

impl Chaos<'_> {
    /// Nothing may stop, and files must take effect again when they are back.
    pub(super) async fn empty_folder(&mut self) -> anyhow::Result<()> {
        for app in App::ALL {
            let file = self.stack.file(app.name());
            fs::remove_file(&file).with_context(|| format!("delete {}", file.display()))?;
        }
        sleep(ABSENCE).await;
        App::ALL.into_iter().try_for_each(|app| self.put(app))
    }

    /// An unmounted folder looks like this.
    pub(super) async fn replace_folder(&mut self) -> anyhow::Result<()> {
        let folder = self.stack.root().join("vassals");
        let away = folder.with_extension("away");
        fs::rename(&folder, &away)?;
        fs::create_dir(&folder)?;
        sleep(ABSENCE).await;
        fs::remove_dir(&folder)?;
        fs::rename(&away, &folder).context("put the folder back")
    }

    /// Every serving worker must be adopted or drained. None may be cut off.
    pub(super) async fn lose_workers(&self, list: List) -> anyhow::Result<()> {
        let emperord = self.stack.daemon("emperord").await?;
        let path = find(self.stack.root(), LIST).with_context(|| format!("find {LIST}"))?;
        // It must not write the file again before it is killed.
        process::signal(emperord, Signal::STOP)?;
        match list {
            List::Gone => fs::remove_file(&path)?,
            List::Damaged => fs::write(&path, "{ \"workers\": [")?,
        }
        process::signal(emperord, Signal::KILL)?;
        self.next_emperord(emperord).await
    }

    /// The app must not shrink permanently: the last good version serves, and replaces killed workers.
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

/// Finds a file of that name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    let here = entries.iter().find(|it| it.file_name().is_some_and(|it| it == name)).cloned();
    here.or_else(|| entries.iter().filter(|it| it.is_dir()).find_map(|it| find(it, name)))
}
