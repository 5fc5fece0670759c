//! Listening sockets that were bound by someone else and handed over, as systemd does (`sd_listen_fds(3)`).

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

const FIRST: RawFd = 3;
const AT_MOST: RawFd = 64;

/// A socket that was handed over.
#[derive(Debug)]
pub struct Listening {
    /// From `LISTEN_FDNAMES`; `unknown` where none was given.
    pub name: String,
    /// The socket, with close-on-exec set.
    pub fd: OwnedFd,
}

/// Why what was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenFdsError {
    /// `LISTEN_FDS` is not a number in range.
    #[error("read LISTEN_FDS={0}: not a number from 0 to {AT_MOST}")]
    Count(String),
    /// A descriptor that was announced is not open.
    #[error("take over file descriptor {fd} of LISTEN_FDS")]
    NotOpen {
        /// Its number.
        fd: RawFd,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes the sockets that were handed over; none when there are none, or when they are meant for another
/// process (`LISTEN_PID`). To be called once, before threads are started.
///
/// # Errors
/// When the environment announces what is not there.
pub fn take() -> Result<Vec<Listening>, ListenFdsError> {
    let Ok(count) = env::var("LISTEN_FDS") else { return Ok(Vec::new()) };
    if env::var("LISTEN_PID").is_ok_and(|pid| pid != std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let number: RawFd = match count.parse() {
        Ok(number) if (0..=AT_MOST).contains(&number) => number,
        _ => return Err(ListenFdsError::Count(count)),
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|it| !it.is_empty());
    (FIRST..FIRST + number)
        .map(|fd| {
            let name = names.next().unwrap_or("unknown").to_owned();
            Ok(Listening { name, fd: own(fd)? })
        })
        .collect()
}

#[expect(unsafe_code, reason = "a descriptor inherited across exec has no owner that Rust knows")]
fn own(fd: RawFd) -> Result<OwnedFd, ListenFdsError> {
    // A look that needs no ownership: an announced descriptor that is not open must not be adopted.
    File::open(format!("/proc/self/fdinfo/{fd}")).map_err(|source| ListenFdsError::NotOpen { fd, source })?;
    // SAFETY: the descriptor is open, and the protocol of `sd_listen_fds(3)` makes this process its owner.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)
        .map_err(|source| ListenFdsError::NotOpen { fd, source: source.into() })?;
    Ok(owned)
}
