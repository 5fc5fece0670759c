//! Starts workers as units of systemd, `workerd@blog-1.service`: each in a cgroup of its own, as its app's user, with
//! its log in the journal; the operator's `systemctl restart` of one does what it says.
//!
//! What the unit file cannot know stands in a drop-in that is written before each start. What it is started as is not
//! told by systemd but by the process itself, when it asks what to run: the kernel says who asks, and its cgroup,
//! which only root can choose, of which unit it is.

mod bus;
mod drop_in;

use std::fs::{self, Permissions};
use std::future::ready;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use api::{VassalName, WorkerName};
use tokio::net::UnixStream;
use vassal::Vassal;

use super::{Inquiry, Job, LaunchError, Launcher, Preload, Start, owner_of};
use crate::process::{Identity, Process};
use drop_in::DropIn;

/// Units that last until the next boot (systemd.unit(5)).
const UNITS: &str = "/run/systemd/system";

/// The machine's systemd.
#[derive(Debug)]
pub struct Systemd {
    /// Holds the folders of the workers' sockets, one for each app.
    pub sockets: PathBuf,
}

impl Launcher for Systemd {
    fn admit(&self, vassal: &Vassal) -> Result<Option<u32>, String> {
        vassal.confinement.user.is_none().then(|| owner_of(vassal)).transpose()
    }

    fn start(&self, worker: &WorkerName, vassal: &Vassal) -> Result<Start, LaunchError> {
        self.write_drop_in(worker, vassal)?;
        Ok(Start::Ordered(Box::pin(bus::start(unit(worker)))))
    }

    fn start_template(&self, vassal: &Vassal) -> Result<(Process, UnixStream), LaunchError> {
        Err(LaunchError::NoTemplates(vassal.name.clone()))
    }

    fn preload(&self) -> Preload {
        Preload::Impossible
    }

    fn stop(&self, worker: &WorkerName) -> Option<Job> {
        Some(Box::pin(bus::stop(unit(worker))))
    }

    fn change(&self, worker: &WorkerName, vassal: &Vassal) -> Option<Job> {
        match self.write_drop_in(worker, vassal) {
            Ok(()) => Some(Box::pin(bus::refresh(unit(worker)))),
            Err(error) => Some(Box::pin(ready(Err(error.to_string())))),
        }
    }

    fn forget(&self, app: &VassalName) -> Option<Job> {
        Some(Box::pin(bus::reset_failed(app.clone())))
    }

    fn ending(&self, worker: &WorkerName, identity: Identity) -> Option<Inquiry> {
        Some(Box::pin(bus::ending(unit(worker), identity.pid)))
    }

    fn is_of(&self, process: &Process, worker: &WorkerName) -> bool {
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", process.identity().pid));
        // Read while the process is held: if it has not ended since, the text is of this one.
        cgroup.is_ok_and(|it| is_in(&it, &unit(worker))) && !process.has_ended()
    }
}

impl Systemd {
    fn write_drop_in(&self, worker: &WorkerName, vassal: &Vassal) -> Result<(), LaunchError> {
        let drop_in = DropIn::new(vassal, &self.sockets)?;
        let folder = Path::new(UNITS).join(format!("{}.d", unit(worker)));
        write(&folder, &drop_in.to_string())
    }
}

fn unit(worker: &WorkerName) -> String {
    format!("workerd@{worker}.service")
}

/// Whose unit it is; none where it is no worker's.
fn worker(unit: &str) -> Option<WorkerName> {
    WorkerName::parse(unit.strip_prefix("workerd@")?.strip_suffix(".service")?).ok()
}

/// Whether a cgroup(7) file names the unit in systemd's own hierarchy.
fn is_in(cgroup: &str, unit: &str) -> bool {
    let of_systemd = |line: &str| {
        let (_, controllers_and_path) = line.split_once(':')?;
        let (controllers, path) = controllers_and_path.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then(|| path.to_owned())
    };
    cgroup.lines().filter_map(of_systemd).any(|path| path.split('/').any(|part| part == unit))
}

/// A file that says already what it should is left as it is, so that systemd need not read it again.
fn write(folder: &Path, text: &str) -> Result<(), LaunchError> {
    let path = folder.join("50-emperord.conf");
    let written = || -> io::Result<()> {
        if fs::read_to_string(&path).is_ok_and(|it| it == text) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        fs::write(&path, text)?;
        // `systemctl cat` shows it to everyone in any case, and systemd warns of a file that it alone may read.
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
            ("12:memory:/\n1:name=systemd:/imperium.slice/workerd@blog-1.service\n0::/\n", true),
            ("0::/imperium.slice/workerd@blog-1.service/below\n", true),
            ("0::/imperium.slice/workerd@blog-11.service\n", false),
            ("7:memory:/workerd@blog-1.service\n0::/user.slice\n", false),
            ("0::/user.slice/xworkerd@blog-1.service\n", false),
            ("", false),
            ("0", false),
        ] {
            assert_eq!(is_in(cgroup, unit), is_of_it, "{cgroup}");
        }
    }

    #[test]
    fn whose_unit_it_is() {
        let of = |unit| worker(unit).map(|it| (it.vassal.to_string(), it.number));
        assert_eq!(of("workerd@blog-1.service"), Some(("blog".to_owned(), 1)));
        assert_eq!(of("workerd@blog-admin-12.service"), Some(("blog-admin".to_owned(), 12)));
        for other in ["workerd@blog.service", "frontd@1.service", "workerd@blog-1.socket", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_drop_in_that_is_right_is_left_alone() {
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
