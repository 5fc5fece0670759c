//! Converts an app's settings to systemd's.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::VassalName;
use vassal::Vassal;

use super::super::LaunchError;

/// The time that a worker gets in addition to `timeouts.stop`, which is its drain time after SIGTERM.
const MARGIN: Duration = Duration::from_secs(5);

/// A drop-in of `workerd@.service` (systemd.unit(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DropIn {
    app: VassalName,
    /// A name or a number.
    user: String,
    /// The folder of its sockets.
    folder: PathBuf,
    /// frontd's group, which owns the parent folder of all sockets.
    front: u32,
    memory: Option<u64>,
    cpu: Option<u32>,
    stop: Duration,
}

impl DropIn {
    /// Creates the drop-in for workers of `vassal`. Their sockets' folder is below `sockets`.
    ///
    /// # Errors
    /// If the app's user is unknown.
    pub(super) fn new(vassal: &Vassal, sockets: &Path) -> Result<Self, LaunchError> {
        let user = match (&vassal.confinement.user, vassal.confinement.owner) {
            (Some(user), _) => user.to_string(),
            // The owner when this version of the file was accepted.
            (None, Some(uid)) if uid != 0 => uid.to_string(),
            (None, _) => return Err(unknown(vassal)),
        };
        Ok(Self {
            app: vassal.name.clone(),
            user,
            folder: sockets.join(vassal.name.as_str()),
            front: look_at(sockets)?.gid(),
            memory: vassal.confinement.memory,
            cpu: vassal.confinement.cpu,
            stop: vassal.timeouts.stop + MARGIN,
        })
    }
}

fn look_at(folder: &Path) -> Result<Metadata, LaunchError> {
    let failed = |source| LaunchError::Prepare { step: "look at", path: folder.to_owned(), source };
    folder.metadata().map_err(failed)
}

fn unknown(vassal: &Vassal) -> LaunchError {
    LaunchError::User(format!("the user that {} runs as is unknown: set `user` in its file", vassal.name))
}

impl fmt::Display for DropIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, user, folder, front, memory, cpu, stop } = self;
        writeln!(f, "# Written by emperord from what the file of {app} says. Changes here are lost.")?;
        writeln!(f, "[Service]\nUser={user}")?;
        // It belongs to the app's user and to frontd's group, which files in it inherit. So frontd may enter
        // it, but no other app.
        let folder = folder.display();
        writeln!(f, "ExecStartPre=+/usr/bin/install -d -o {user} -g {front} -m 2750 {folder}")?;
        writeln!(f, "TimeoutStopSec={}", stop.as_secs_f64())?;
        memory.map_or(Ok(()), |it| writeln!(f, "MemoryMax={it}"))?;
        cpu.map_or(Ok(()), |it| writeln!(f, "CPUQuota={it}%"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vassal(more: &str) -> Vassal {
        let text = format!("domains = ['a']\napp = 'a:a'\ndirectory = '/proc/self'\n{more}");
        Vassal::parse(Path::new("/v/blog.toml"), &text).unwrap()
    }

    fn drop_in(more: &str) -> Result<String, LaunchError> {
        let mut drop_in = DropIn::new(&vassal(more), Path::new("/proc/self"))?;
        drop_in.front = 990;
        Ok(drop_in.to_string())
    }

    #[test]
    fn settings_are_converted_to_a_drop_in() {
        let actual =
            drop_in("user = 'web'\n[limits]\nmemory = '300 MB'\ncpu = '150%'\n[timeouts]\nstop = 60")
                .unwrap();
        let expected = "# Written by emperord from what the file of blog says. Changes here are lost.\n[Service]\nUser=web\n\
            ExecStartPre=+/usr/bin/install -d -o web -g 990 -m 2750 /proc/self/blog\nTimeoutStopSec=65\n\
            MemoryMax=300000000\nCPUQuota=150%\n";
        assert_eq!(actual, expected);
        for (stop, limit) in [("", 35), ("[timeouts]\nstop = 1", 6)] {
            let actual = drop_in(&format!("user = 'web'\n{stop}")).unwrap();
            assert!(actual.ends_with(&format!("\nTimeoutStopSec={limit}\n")), "{actual}");
        }
    }

    #[test]
    fn the_owner_of_the_accepted_version_runs_the_app() {
        let user = |owner| {
            let mut vassal = vassal("");
            vassal.confinement.owner = owner;
            DropIn::new(&vassal, Path::new("/proc/self")).map(|it| it.user)
        };
        assert_eq!(user(Some(1001)).unwrap(), "1001");
        for owner in [None, Some(0)] {
            let error = user(owner).unwrap_err().to_string();
            assert_eq!(error, "the user that blog runs as is unknown: set `user` in its file");
        }
    }
}
