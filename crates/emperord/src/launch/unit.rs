//! Starts workers as systemd units, `workerd@blog-1.service`: each with its own cgroup, as its app's user,
//! with its log in the journal. The operator can restart one with `systemctl restart`.
//!
//! A drop-in with the app's settings is written before each start. The process identifies itself when it asks
//! what to run: the kernel reports its credentials, and its cgroup, which only root can choose, tells the
//! unit.

mod bus;
mod drop_in;
mod refused;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::future::ready;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use api::{VassalName, WorkerName};
use vassal::{UserName, Vassal};

use super::account::{self, Account};
use super::{Inquiry, Job, JobError, LaunchError, Launcher, Prepared, Start, UnitManager, owner_of};
use crate::pidfd::{Identity, Process};
use drop_in::DropIn;

/// Units that last until the next boot (systemd.unit(5)).
const UNITS: &str = "/run/systemd/system";

/// The system's service manager.
#[derive(Debug)]
pub struct UnitLauncher {
    /// The parent of the apps' folders of sockets.
    sockets: PathBuf,
    /// The uids of the apps' users, as last looked up.
    users: Mutex<BTreeMap<String, u32>>,
}

impl Launcher for UnitLauncher {
    fn admit(&self, vassal: &Vassal) -> Result<Option<u32>, String> {
        match &vassal.confinement.user {
            Some(user) => self.look_up(user, vassal).map(|()| None),
            None => owner_of(vassal).map(Some),
        }
    }

    fn prepare(&self, vassal: &Vassal) -> Result<Prepared, LaunchError> {
        let user = vassal.confinement.user.as_ref();
        user.map_or(Ok(()), |it| self.look_up(it, vassal)).map_err(LaunchError::User)?;
        Ok(Prepared::default())
    }

    fn start(
        &self,
        worker: &WorkerName,
        vassal: &Vassal,
        _prepared: &Prepared,
    ) -> Result<Start, LaunchError> {
        self.write_drop_in(worker, vassal)?;
        Ok(Start::Ordered(Box::pin(bus::start(unit(worker)))))
    }

    fn stop(&self, worker: &WorkerName, _process: Option<&Process>) -> Option<Job> {
        Some(Box::pin(bus::stop(unit(worker))))
    }

    fn units(&self) -> Option<&dyn UnitManager> {
        Some(self)
    }
}

impl UnitManager for UnitLauncher {
    fn change(&self, worker: &WorkerName, vassal: &Vassal) -> Job {
        match self.write_drop_in(worker, vassal) {
            Ok(()) => Box::pin(bus::refresh(unit(worker))),
            Err(error) => Box::pin(ready(Err(JobError::Failed(error.to_string())))),
        }
    }

    fn forget(&self, app: &VassalName) -> Job {
        Box::pin(bus::reset_failed(app.clone()))
    }

    fn ending(&self, worker: &WorkerName, identity: Identity) -> Inquiry {
        Box::pin(bus::ending(unit(worker), identity.pid))
    }

    fn is_of(&self, process: &Process, worker: &WorkerName, vassal: &Vassal) -> bool {
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", process.identity().pid));
        // The process is held by its pidfd. If it hasn't exited since, the file was its own.
        cgroup.is_ok_and(|it| is_in(&it, &root(), &unit(worker)))
            && self.has_user_of(process, vassal)
            && !process.has_ended()
    }
}

impl UnitLauncher {
    /// Creates a launcher for workers whose sockets are below that folder.
    #[must_use]
    pub fn new(sockets: PathBuf) -> Self {
        Self { sockets, users: Mutex::default() }
    }

    /// Looks up a user's uid, to compare it with those of processes that claim to be workers.
    fn look_up(&self, user: &UserName, vassal: &Vassal) -> Result<(), String> {
        let source_of_user = format!("`user` is {user}");
        let uid = account::known(&source_of_user, &vassal.name, Account::named(user.as_str()))?.uid;
        self.users.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_string(), uid);
        Ok(())
    }

    /// Whether the process runs as its app's user: `user`, or the owner that was determined when the file was
    /// accepted.
    fn has_user_of(&self, process: &Process, vassal: &Vassal) -> bool {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = match (&vassal.confinement.user, vassal.confinement.owner) {
            (Some(user), _) => users.get(user.as_str()).copied(),
            (None, owner) => owner,
        };
        uid.is_some_and(|uid| process.identity().has_user(uid))
    }

    fn write_drop_in(&self, worker: &WorkerName, vassal: &Vassal) -> Result<(), LaunchError> {
        let drop_in = DropIn::new(vassal, &self.sockets)?;
        let folder = Path::new(UNITS).join(format!("{}.d", unit(worker)));
        write(&folder, &drop_in.to_string())
    }
}

fn unit(worker: &WorkerName) -> String {
    format!("workerd@{worker}.service")
}

/// Parses the name of a unit. None if it isn't a worker's.
fn worker(unit: &str) -> Option<WorkerName> {
    WorkerName::parse(unit.strip_prefix("workerd@")?.strip_suffix(".service")?).ok()
}

/// Whether a cgroup(7) file names the unit in systemd's own hierarchy, directly below system slices. Units of
/// a user's manager are below that user's `user@.service`, whatever their names. `root` is the root of the
/// system's cgroups.
fn is_in(cgroup: &str, root: &str, unit: &str) -> bool {
    let Some(path) = path(cgroup).and_then(|it| it.strip_prefix(root)?.strip_prefix('/')) else {
        return false;
    };
    path.split('/').find(|part| !part.ends_with(".slice")) == Some(unit)
}

/// The path of a process in systemd's own hierarchy. On hybrid systems, that is the named one, which comes
/// first.
fn path(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let (_, controllers_and_path) = line.split_once(':')?;
        let (controllers, path) = controllers_and_path.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then_some(path)
    })
}

/// The root of the system's cgroups: the parent of systemd's `init.scope`. In a container, it isn't `/`.
fn root() -> String {
    let init = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    path(&init).and_then(|it| it.strip_suffix("/init.scope")).unwrap_or_default().to_owned()
}

/// Writes the drop-in. A file that already has this content is left alone, so that systemd doesn't have to
/// reload it.
fn write(folder: &Path, text: &str) -> Result<(), LaunchError> {
    let path = folder.join("50-emperord.conf");
    let written = || -> io::Result<()> {
        if fs::read_to_string(&path).is_ok_and(|it| it == text) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        fs::write(&path, text)?;
        // Its content is no secret, since `systemctl cat` shows it, and systemd warns of unit files that only
        // root can read.
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))
    };
    written().map_err(|source| LaunchError::Prepare { step: "write", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_process_is_known_by_its_cgroup() {
        let unit = "workerd@blog-1.service";
        for (cgroup, is_of_it) in [
            ("0::/imperium.slice/workerd@blog-1.service\n", true),
            ("0::/system.slice/system-workerd.slice/workerd@blog-1.service\n", true),
            // These can be created by a user's own manager.
            ("0::/user.slice/user-1001.slice/user@1001.service/app.slice/workerd@blog-1.service\n", false),
            (
                "0::/user.slice/user-1001.slice/user@1001.service/imperium.slice/workerd@blog-1.service\n",
                false,
            ),
            ("0::/imperium.slice/workerd@shop-1.service/workerd@blog-1.service\n", false),
            ("0::/../imperium.slice/workerd@blog-1.service\n", false),
            ("12:memory:/\n1:name=systemd:/imperium.slice/workerd@blog-1.service\n0::/\n", true),
            ("0::/imperium.slice/workerd@blog-1.service/below\n", true),
            ("0::/imperium.slice/workerd@blog-11.service\n", false),
            ("7:memory:/workerd@blog-1.service\n0::/user.slice\n", false),
            ("0::/user.slice/xworkerd@blog-1.service\n", false),
            ("", false),
            ("0", false),
        ] {
            assert_eq!(is_in(cgroup, "", unit), is_of_it, "{cgroup}");
        }
        let within = "0::/machine.slice/lxc.scope/imperium.slice/workerd@blog-1.service\n";
        assert!(is_in(within, "/machine.slice/lxc.scope", unit), "in a container");
        assert!(!is_in(within, "", unit));
    }

    #[tokio::test]
    async fn a_process_of_another_user_is_not_a_worker_of_the_app() {
        let own = rustix::process::geteuid().as_raw();
        let process = Process::open(std::process::id()).unwrap();
        let systemd = UnitLauncher::new(PathBuf::new());
        let mut vassal =
            Vassal::parse(Path::new("/v/blog.toml"), "domains = ['a']\napp = 'a:a'\ndirectory = '/'")
                .unwrap();
        for (owner, expected) in [(Some(own), true), (Some(own + 1), false), (None, false)] {
            vassal.confinement.owner = owner;
            assert_eq!(systemd.has_user_of(&process, &vassal), expected, "{owner:?}");
        }
        let text = "domains = ['a']\napp = 'a:a'\ndirectory = '/'\nuser = 'nobody'";
        vassal = Vassal::parse(Path::new("/v/blog.toml"), text).unwrap();
        vassal.confinement.owner = Some(own);
        assert!(!systemd.has_user_of(&process, &vassal), "nobody has looked it up");
        systemd.prepare(&vassal).unwrap();
        assert!(!systemd.has_user_of(&process, &vassal), "`user` counts");
        if own == 0 {
            vassal = Vassal::parse(Path::new("/v/blog.toml"), &text.replace("nobody", "root")).unwrap();
            assert_eq!(systemd.admit(&vassal), Ok(None));
            assert!(systemd.has_user_of(&process, &vassal));
        }
        vassal = Vassal::parse(Path::new("/v/blog.toml"), &text.replace("nobody", "no-such-user")).unwrap();
        let error = systemd.admit(&vassal).unwrap_err();
        assert!(error.starts_with("`user` is no-such-user, which doesn't exist on this machine"), "{error}");
    }

    #[test]
    fn the_worker_of_a_unit_is_parsed() {
        let of = |unit| worker(unit).map(|it| (it.vassal.to_string(), it.number));
        assert_eq!(of("workerd@blog-1.service"), Some(("blog".to_owned(), 1)));
        assert_eq!(of("workerd@blog-admin-12.service"), Some(("blog-admin".to_owned(), 12)));
        for other in ["workerd@blog.service", "frontd@1.service", "workerd@blog-1.socket", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn an_unchanged_drop_in_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("workerd@blog-1.service.d");
        let written = || fs::metadata(folder.join("50-emperord.conf")).unwrap().modified().unwrap();
        write(&folder, "[Service]\n").unwrap();
        let before = written();
        write(&folder, "[Service]\n").unwrap();
        assert_eq!(written(), before);
        write(&folder, "[Unit]\n").unwrap();
        assert_eq!(fs::read_to_string(folder.join("50-emperord.conf")).unwrap(), "[Unit]\n");
    }
}
