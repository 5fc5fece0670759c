//! Gets Python stacks when Python code can't run: after a fatal signal, and while C code holds the GIL.

use std::fs::{self, File, OpenOptions};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::fs::MemfdFlags;
use rustix::io::DupFlags;
use tokio::sync::Mutex;

use super::thread::ThreadId;

/// How long a thread may take to handle a signal.
pub(crate) const HANDLED_WITHIN: Duration = Duration::from_millis(100);
const STDERR: i32 = 2;
/// Whether crashes are written to standard error by this program's choice.
static IS_ENABLED_HERE: AtomicBool = AtomicBool::new(false);
/// How much of a stack is read, in bytes. faulthandler writes at most a hundred frames.
const STACK_LIMIT: usize = 64 << 10;

/// Enables faulthandler, so that crashes in C code log Python stacks, unless the app has enabled it itself.
pub(crate) fn enable(py: Python<'_>) -> PyResult<()> {
    let module = py.import("faulthandler")?;
    if !module.call_method0("is_enabled")?.extract::<bool>()? {
        module.call_method1("enable", (STDERR,))?;
        IS_ENABLED_HERE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// The file in which emperord finds the stack of a start that fails, of the worker that will listen at `socket`.
pub(crate) fn crash_file(socket: &Path) -> PathBuf {
    socket.with_extension("crash")
}

/// Has a crash write its stack into a file, for emperord, until this is dropped.
///
/// faulthandler keeps the number of a descriptor. It isn't told another one afterwards, since the app may have enabled it
/// for a file of its own meanwhile: the descriptor becomes standard error.
#[derive(Debug)]
pub(crate) struct CrashFile {
    path: PathBuf,
    file: ManuallyDrop<OwnedFd>,
}

impl CrashFile {
    /// Opens the file for the worker that will listen at `socket`. None if crashes aren't written to standard error.
    pub(crate) fn open(py: Python<'_>, socket: &Path) -> PyResult<Option<Self>> {
        if !IS_ENABLED_HERE.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let path = crash_file(socket);
        let _left_by_an_earlier_worker = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        py.import("faulthandler")?.call_method1("enable", (file.as_raw_fd(),))?;
        Ok(Some(Self { path, file: ManuallyDrop::new(file.into()) }))
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        let _never = rustix::io::dup3(rustix::stdio::stderr(), &mut self.file, DupFlags::CLOEXEC);
        let _gone = fs::remove_file(&self.path);
    }
}

/// Which stacks to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stacks {
    /// Only that of the signalled thread.
    Asked,
    /// Those of all threads.
    All,
}

/// A pending request for a stack.
#[derive(Debug)]
pub(crate) struct Asked {
    before: u64,
}

/// Writes Python stacks into memory, from a signal handler.
#[derive(Debug)]
pub(crate) struct Dump {
    file: File,
    signal: i32,
    /// Held while a thread writes, so that two stacks don't mix.
    turn: Mutex<()>,
}

impl Dump {
    /// Installs the signal handler, replacing that of an earlier `Dump`. Call this on the main thread.
    pub(crate) fn install(py: Python<'_>, stacks: Stacks) -> PyResult<Self> {
        let signal: i32 = py.import("_signal")?.getattr("SIGRTMAX")?.extract::<i32>()? - 2;
        let file = rustix::fs::memfd_create("stack", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let file = File::from(file);
        let options = PyDict::new(py);
        options.set_item("file", file.as_raw_fd())?;
        options.set_item("all_threads", stacks == Stacks::All)?;
        py.import("faulthandler")?.call_method("register", (signal,), Some(&options))?;
        Ok(Self { file, signal, turn: Mutex::default() })
    }

    /// Returns the stack of a thread as faulthandler formats it. Handles one thread at a time.
    pub(crate) async fn of(&self, thread: ThreadId) -> String {
        let _turn = self.turn.lock().await;
        let asked = self.ask(thread);
        tokio::time::sleep(HANDLED_WITHIN).await;
        self.answer(&asked)
    }

    /// Has a thread write its stack, which takes at most `HANDLED_WITHIN`.
    pub(crate) fn ask(&self, thread: ThreadId) -> Asked {
        let before = self.file.metadata().map_or(0, |it| it.len());
        thread.signal(self.signal);
        Asked { before }
    }

    /// Returns what was written since `asked`.
    pub(crate) fn answer(&self, asked: &Asked) -> String {
        let mut stack = vec![0; STACK_LIMIT];
        match self.file.read_at(&mut stack, asked.before) {
            Ok(length) if length > 0 => String::from_utf8_lossy(&stack[..length]).trim_end().to_owned(),
            _ => "its stack cannot be read: it does not handle signals".to_owned(),
        }
    }
}
