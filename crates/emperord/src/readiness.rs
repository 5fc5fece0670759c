//! Waits for file descriptors that tokio has no type for: pidfds and inotify's.
#![expect(unsafe_code, reason = "tokio cannot see that these types keep their descriptor")]

use std::io;
use std::os::fd::OwnedFd;

use inotify::Inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for a pidfd.
pub(crate) fn pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and of one file description, as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// Waits for inotify's events.
pub(crate) fn inotify(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: an `Inotify` owns its descriptor; only `close`, which takes it by value, closes it before
    // it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?)
}
