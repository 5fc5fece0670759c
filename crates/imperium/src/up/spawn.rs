//! Starts one daemon as a process of its own, with the listening sockets it serves.
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

/// The first descriptor that is handed over, of `sd_listen_fds(3)`.
pub(crate) const FIRST_FD: RawFd = 3;

/// Starts `command` with `sockets` at descriptors 3, 4 and so on. It leads a process group, so that a
/// Ctrl-C in the terminal does not reach it, and gets `parent_death` when this process dies.
///
/// To be called on a thread that lives as long as the process: `PR_SET_PDEATHSIG` means the thread.
/// All of `sockets` lie above the descriptors that they are put at.
///
/// # Errors
/// When the program cannot be executed.
pub(crate) fn spawn(
    mut command: Command,
    sockets: &[BorrowedFd<'_>],
    parent_death: Signal,
) -> io::Result<Pid> {
    let parent = getpid();
    let sockets: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    command.stdin(Stdio::null()).process_group(0);
    // SAFETY: the closure runs between fork and exec, and makes system calls alone: no lock, no memory.
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
    // The handle is let go without a wait: `Children` reaps whoever ends.
    Ok(Pid::from_child(&child))
}

/// Makes `at` another descriptor of `socket`, one that stays open across exec.
fn put(socket: RawFd, at: RawFd) -> io::Result<()> {
    // SAFETY: the parent holds the socket open while it forks, and the child has a copy.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    // SAFETY: of what was open at `at` nothing is used between here and exec, and it is never closed.
    let mut at = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(at) });
    rustix::io::dup2(socket, &mut at)?;
    Ok(())
}
