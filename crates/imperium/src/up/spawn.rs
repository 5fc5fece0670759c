//! Starts a daemon with the listening sockets that it inherits.
#![expect(
    unsafe_code,
    reason = "descriptors are put in their places, and the tie to the parent made, between fork and exec"
)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The first inherited descriptor, as in `sd_listen_fds(3)`.
pub(crate) const FIRST_FD: RawFd = 3;

/// Starts `command` with `sockets` at descriptors 3, 4 and so on. It leads its own process group, so that
/// Ctrl-C in the terminal doesn't reach it, and receives `parent_death` when this process dies.
///
/// Call this on a thread that lives as long as the process, since `PR_SET_PDEATHSIG` refers to the thread.
/// All `sockets` must lie above the descriptors that they are moved to.
///
/// # Errors
/// If the program can't be executed.
pub(crate) fn spawn(
    mut command: Command,
    sockets: &[BorrowedFd<'_>],
    parent_death: Signal,
) -> io::Result<Pid> {
    let parent = getpid();
    let sockets: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    command.stdin(Stdio::null()).process_group(0);
    // SAFETY: the closure runs between fork and exec, and makes only system calls: it neither locks nor
    // allocates.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(parent_death))?;
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            sockets.iter().zip(FIRST_FD..).try_for_each(|(&socket, at)| put(socket, at))
        });
    }
    let child = command.spawn()?;
    // Dropping the handle doesn't wait for the process: `Children` reaps it.
    Ok(Pid::from_child(&child))
}

/// Duplicates `socket` to descriptor `at`, which stays open across exec.
fn put(socket: RawFd, at: RawFd) -> io::Result<()> {
    // SAFETY: the parent keeps the socket open while it forks, and the child has a copy.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    // SAFETY: nothing uses the descriptor that was open at `at` between here and exec, and `ManuallyDrop`
    // never closes it.
    let mut at = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(at) });
    rustix::io::dup2(socket, &mut at)?;
    Ok(())
}
