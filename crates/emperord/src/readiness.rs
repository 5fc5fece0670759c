//! Waits for file descriptors that tokio has no type for: pidfds and inotify.
#![expect(unsafe_code, reason = "tokio cannot see that these types keep their descriptor")]

use std::io;
use std::os::fd::OwnedFd;

use inotify::Inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a pidfd awaitable.
pub(crate) fn pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and refers to the same file description as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// Makes inotify awaitable.
pub(crate) fn inotify(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: an `Inotify` owns its descriptor. Apart from dropping it, only `close` closes it, which takes
    // it by value.
    Ok(unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?)
}
