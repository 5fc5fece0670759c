//! Inherited listening sockets, passed on as systemd does it (`sd_listen_fds(3)`).

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

// The crate sd-notify needs LISTEN_PID, which a parent that passes its sockets on through exec, such as `imperium up`,
// can't set, and returns numbers without checking that they are open.

const FIRST: RawFd = 3;
const MAX_FDS: RawFd = 64;

/// An inherited socket.
#[derive(Debug)]
pub struct Listening {
    /// From `LISTEN_FDNAMES`, or `unknown` if there is no name.
    pub name: String,
    /// The socket, with close-on-exec set.
    pub fd: OwnedFd,
}

/// Why inherited sockets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenFdsError {
    /// `LISTEN_FDS` isn't a number in range.
    #[error("read LISTEN_FDS={0}: not a number from 0 to {MAX_FDS}")]
    Count(String),
    /// An announced descriptor isn't open.
    #[error("take over file descriptor {fd} of LISTEN_FDS")]
    NotOpen {
        /// The descriptor's number.
        fd: RawFd,
        /// The error of the kernel.
        source: io::Error,
    },
}

/// Takes the inherited sockets. Returns none if there are none, or if they are meant for another process
/// (`LISTEN_PID`). Must be called only once, before threads are started.
///
/// # Errors
///
/// Returns an error if the environment announces sockets that don't exist.
pub fn take() -> Result<Vec<Listening>, ListenFdsError> {
    let Ok(count) = env::var("LISTEN_FDS") else { return Ok(Vec::new()) };
    if env::var("LISTEN_PID").is_ok_and(|pid| pid != std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let number: RawFd = match count.parse() {
        Ok(number) if (0..=MAX_FDS).contains(&number) => number,
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
    // Checked without taking ownership: an announced descriptor that isn't open must not be adopted.
    File::open(format!("/proc/self/fdinfo/{fd}")).map_err(|source| ListenFdsError::NotOpen { fd, source })?;
    // SAFETY: the descriptor is open, and the protocol of `sd_listen_fds(3)` makes this process its owner.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)
        .map_err(|source| ListenFdsError::NotOpen { fd, source: source.into() })?;
    Ok(owned)
}
