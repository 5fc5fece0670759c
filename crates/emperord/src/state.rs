//! The state that must outlive emperord: running workers, and the last valid version of each vassal file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use api::{Endpoint, VassalName};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::pidfd::Identity;
use crate::vassals::{FolderIdentity, Missing};

/// The state folder.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    boot: String,
    /// The content of the workers' file, as last read or written by this process.
    saved: Alive,
    /// The running workers are unknown: the file was damaged, or is missing although there are apps.
    is_lost: bool,
}

/// The running workers, and where their apps' files are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The running workers.
    pub workers: Vec<WorkerRecord>,
    /// The folder that the apps' files were in.
    #[serde(default)]
    pub folder: Option<FolderIdentity>,
    /// The apps that keep serving although their files are missing.
    #[serde(default)]
    pub missing: BTreeMap<String, Missing>,
}

/// A running worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Such as `blog-2`.
    pub name: String,
    /// Its process.
    #[serde(flatten)]
    pub identity: Identity,
    /// Its generation.
    pub generation: u64,
    /// The fingerprint of the configuration that it was started with.
    pub fingerprint: String,
    /// Its stage.
    pub stage: StageRecord,
    /// How to reach it, once it is ready.
    pub serving: Option<Serving>,
}

/// The stage of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageRecord {
    /// It imports its app.
    Starting,
    /// It accepts requests.
    Ready,
    /// It was told to drain.
    Draining,
    /// It was sent a signal.
    Stopping,
}

/// How to reach a worker that accepts requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Distinguishes two processes with the same name.
    pub instance: u64,
    /// Where it listens. In the file, this is a text.
    #[serde(rename = "socket", with = "endpoint_as_text")]
    pub endpoint: Endpoint,
    /// The number of requests that it handles at once.
    pub capacity: u32,
    /// Such as `CPython 3.11.7`.
    pub python: String,
    /// How it calls the app.
    #[serde(default)]
    pub interface: Interface,
    /// Such as `uvloop`. Empty if there is no event loop.
    #[serde(default, rename = "loop")]
    pub event_loop: String,
}

/// How a worker calls its app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// It hasn't reported that: it isn't ready, or is of an earlier version.
    #[default]
    Unknown,
    /// WSGI.
    Wsgi,
    /// ASGI.
    Asgi,
}

impl Interface {
    /// `wsgi`, `asgi`, or empty.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Wsgi => "wsgi",
            Self::Asgi => "asgi",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WorkersFile {
    /// Pids and start times are only valid until the next boot.
    boot: String,
    #[serde(flatten)]
    alive: Alive,
}

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", path.display())]
pub struct StateError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl State {
    /// Opens the folder, or creates it.
    ///
    /// # Errors
    /// If it can't be created, or its file of workers can't be read.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        for versions in ["vassals", "proven"].map(|it| folder.join(it)) {
            fs::create_dir_all(&versions).map_err(failed("make folder", &versions))?;
        }
        let mut state =
            Self { folder: folder.to_owned(), boot: boot_id(), saved: Alive::default(), is_lost: false };
        match state.read()? {
            Some(saved) => state.saved = saved,
            None => state.is_lost = state.has_versions(),
        }
        Ok(state)
    }

    /// Whether workers may be running that aren't recorded.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn has_versions(&self) -> bool {
        let versions = fs::read_dir(self.folder.join("vassals"));
        versions.is_ok_and(|mut it| it.next().is_some())
    }

    /// The workers that were running when the state was last saved.
    #[must_use]
    pub fn workers(&self) -> &[WorkerRecord] {
        &self.saved.workers
    }

    /// The folder that the apps' files were in when the state was last saved.
    #[must_use]
    pub fn folder(&self) -> Option<FolderIdentity> {
        self.saved.folder
    }

    /// Why the app's file was missing when the state was last saved, if it was.
    #[must_use]
    pub fn missing(&self, name: &VassalName) -> Option<Missing> {
        self.saved.missing.get(name.as_str()).copied()
    }

    /// Saves the state, if it has changed.
    ///
    /// # Errors
    /// If it can't be written. The previous state is kept then.
    pub fn save(&mut self, alive: Alive) -> Result<(), StateError> {
        if alive == self.saved {
            return Ok(());
        }
        let path = self.workers_path();
        let file = WorkersFile { boot: self.boot.clone(), alive };
        let text =
            serde_json::to_vec_pretty(&file).map_err(io::Error::from).map_err(failed("write", &path))?;
        replace(&path, &text).map_err(failed("write", &path))?;
        self.saved = file.alive;
        Ok(())
    }

    /// Returns the last valid version of an app's file.
    #[must_use]
    pub fn good_version(&self, name: &VassalName) -> Option<String> {
        fs::read_to_string(self.vassal_path(name)).ok()
    }

    /// Returns the owner of the app's directory when that version was accepted. None if its file sets a user.
    #[must_use]
    pub fn owner(&self, name: &VassalName) -> Option<u32> {
        read_owner(&self.owner_path(name))
    }

    /// Returns the same for the proven version.
    #[must_use]
    pub fn proven_owner(&self, name: &VassalName) -> Option<u32> {
        read_owner(&self.proven_owner_path(name))
    }

    /// Saves a valid version of an app's file, and the user that it runs as if the file doesn't set one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn keep_version(&self, name: &VassalName, text: &str, owner: Option<u32>) -> Result<(), StateError> {
        keep(&self.vassal_path(name), text.as_bytes(), &self.owner_path(name), owner)
    }

    /// Returns the last version of an app's file whose workers became ready.
    #[must_use]
    pub fn proven_version(&self, name: &VassalName) -> Option<String> {
        fs::read_to_string(self.proven_path(name)).ok()
    }

    /// Saves the last valid version of an app's file as proven: its workers became ready.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn keep_proven(&self, name: &VassalName) -> Result<(), StateError> {
        let (good, proven) = (self.vassal_path(name), self.proven_path(name));
        let text = fs::read(&good).map_err(failed("read", &good))?;
        keep(&proven, &text, &self.proven_owner_path(name), self.owner(name))
    }

    /// Forgets an app whose file was deleted.
    pub fn forget_version(&self, name: &VassalName) {
        let _was_never_good = fs::remove_file(self.vassal_path(name));
        let _never_worked = fs::remove_file(self.proven_path(name));
        for owner in [self.owner_path(name), self.proven_owner_path(name)] {
            let _was_not_needed = fs::remove_file(owner);
        }
    }

    /// Reads the workers' file. None if it doesn't exist or can't be used.
    fn read(&self) -> Result<Option<Alive>, StateError> {
        let path = self.workers_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match serde_json::from_slice::<WorkersFile>(&text) {
            Ok(file) if file.boot == self.boot => Ok(Some(file.alive)),
            Ok(_) => Ok(Some(Alive::default())),
            Err(error) => {
                let aside = path.with_extension("json.damaged");
                let moved = fs::rename(&path, &aside);
                tracing::error!(
                    path = %path.display(), moved_to = %aside.display(), moved = moved.is_ok(), %error,
                    "the list of running workers is damaged: workers are adopted when they attach"
                );
                Ok(None)
            }
        }
    }

    fn workers_path(&self) -> PathBuf {
        self.folder.join("workers.json")
    }

    fn proven_owner_path(&self, name: &VassalName) -> PathBuf {
        self.folder.join("vassals").join(format!("{name}.proven-owner"))
    }

    fn owner_path(&self, name: &VassalName) -> PathBuf {
        self.folder.join("vassals").join(format!("{name}.owner"))
    }

    fn vassal_path(&self, name: &VassalName) -> PathBuf {
        self.folder.join("vassals").join(format!("{name}.toml"))
    }

    fn proven_path(&self, name: &VassalName) -> PathBuf {
        self.folder.join("proven").join(format!("{name}.toml"))
    }
}

/// Saves a version and its owner. If this is interrupted, the owner is missing and looked up again. A version
/// never gets the owner of another one.
fn keep(path: &Path, text: &[u8], owner_path: &Path, owner: Option<u32>) -> Result<(), StateError> {
    let _was_none = fs::remove_file(owner_path);
    replace(path, text).map_err(failed("write", path))?;
    let Some(owner) = owner else { return Ok(()) };
    replace(owner_path, owner.to_string().as_bytes()).map_err(failed("write", owner_path))
}

fn read_owner(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Replaces a file atomically: a reader sees the old text or the new one. Only its owner may read it, since
/// an app's environment may contain secrets.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.persist(path)?;
    Ok(())
}

mod endpoint_as_text {
    use api::Endpoint;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(endpoint: &Endpoint, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(endpoint)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Endpoint, D::Error> {
        Ok(Endpoint::from(String::deserialize(from)?.as_str()))
    }
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> WorkerRecord {
        let serving = Serving {
            instance: u64::MAX,
            endpoint: Endpoint::Unix("/run/a.sock".into()),
            capacity: 1,
            python: "CPython 3.11.7".into(),
            interface: Interface::Unknown,
            event_loop: String::new(),
        };
        WorkerRecord {
            name: name.into(),
            identity: Identity { pid: 7, started: 4711 },
            generation: 3,
            fingerprint: "ab".into(),
            stage: StageRecord::Ready,
            serving: Some(serving),
        }
    }

    fn alive(workers: Vec<WorkerRecord>) -> Alive {
        let missing = BTreeMap::from([("blog".to_owned(), Missing::Emptied)]);
        Alive { workers, folder: FolderIdentity::of(Path::new("/")), missing }
    }

    #[test]
    fn the_state_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(folder.path()).unwrap();
        assert!(state.workers().is_empty());
        let mut workers = vec![record("blog-1"), WorkerRecord { serving: None, ..record("blog-2") }];
        if let Some(serving) = &mut workers[0].serving {
            (serving.interface, serving.event_loop) = (Interface::Asgi, "uvloop".to_owned());
        }
        state.save(alive(workers.clone())).unwrap();
        let read = State::open(folder.path()).unwrap();
        assert_eq!((read.workers(), read.folder()), (&*workers, FolderIdentity::of(Path::new("/"))));
        assert_eq!(read.missing(&VassalName::parse("blog").unwrap()), Some(Missing::Emptied));
        state.save(Alive::default()).unwrap();
        assert!(State::open(folder.path()).unwrap().workers().is_empty());
    }

    #[test]
    fn the_file_of_an_earlier_version_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let boot = boot_id();
        let text = format!(
            r#"{{"boot":"{boot}","workers":[{{"name":"blog-1","pid":7,"started":4711,"generation":3,"fingerprint":"ab","stage":"ready",
            "serving":{{"instance":18446744073709551615,"socket":"/run/a.sock","capacity":1,"python":"CPython 3.11.7"}}}}]}}"#
        );
        fs::write(folder.path().join("workers.json"), text).unwrap();
        assert_eq!(State::open(folder.path()).unwrap().workers(), [record("blog-1")]);
    }

    #[test]
    fn the_state_is_discarded_after_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(folder.path()).unwrap();
        state.boot = "another".into();
        state.save(alive(vec![record("blog-1")])).unwrap();
        assert!(State::open(folder.path()).unwrap().workers().is_empty());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_an_unreadable_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workers.json");
        fs::write(&path, "{").unwrap();
        assert!(State::open(folder.path()).unwrap().workers().is_empty());
        assert_eq!(fs::read_to_string(folder.path().join("workers.json.damaged")).unwrap(), "{");
        fs::create_dir(&path).unwrap();
        assert_eq!(State::open(folder.path()).unwrap_err().to_string(), format!("read {}", path.display()));
    }

    #[test]
    fn a_missing_or_damaged_file_counts_as_lost_only_if_there_are_apps() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert!(!state.is_lost());
        state.keep_version(&VassalName::parse("blog").unwrap(), "workers = 2", None).unwrap();
        assert!(State::open(folder.path()).unwrap().is_lost());
        let path = folder.path().join("workers.json");
        fs::write(&path, "{").unwrap();
        assert!(State::open(folder.path()).unwrap().is_lost());
        State::open(folder.path()).unwrap().save(alive(Vec::new())).unwrap();
        assert!(!State::open(folder.path()).unwrap().is_lost());
    }

    #[test]
    fn valid_versions_are_kept_until_they_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let blog = VassalName::parse("blog").unwrap();
        assert_eq!(state.good_version(&blog), None);
        state.keep_version(&blog, "workers = 2", Some(1001)).unwrap();
        assert_eq!(state.good_version(&blog).as_deref(), Some("workers = 2"));
        state.keep_proven(&blog).unwrap();
        state.keep_version(&blog, "workers = 3", None).unwrap();
        assert_eq!(state.proven_version(&blog).as_deref(), Some("workers = 2"));
        assert_eq!((state.owner(&blog), state.proven_owner(&blog)), (None, Some(1001)));
        state.forget_version(&blog);
        assert_eq!((state.good_version(&blog), state.proven_version(&blog)), (None, None));
        assert_eq!((state.owner(&blog), state.proven_owner(&blog)), (None, None));
    }
}
