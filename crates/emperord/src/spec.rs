//! What a worker is told to run, and why it can't.

mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use config::emperord::Mode;
use vassal::Vassal;

pub(crate) use wire::{bounded, failure, milliseconds, spec};

/// Everything that a worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Its number.
    pub number: u16,
    /// Its generation.
    pub generation: u64,
    /// The app.
    pub vassal: Arc<Vassal>,
    /// The path to listen at.
    pub socket: PathBuf,
    /// Whether its app is being developed.
    pub mode: Mode,
}

/// Why a worker can't run its app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub reason: Reason,
    /// One line.
    pub message: String,
    /// Python's traceback, or empty.
    pub traceback: String,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no interpreter, or it is unusable.
    Interpreter,
    /// The app can't be imported.
    Import,
    /// A source file of the app can't be compiled.
    Source,
    /// An error of the operating system.
    System,
}

impl Failure {
    /// The message for the operator. `who` failed.
    pub(crate) fn describe(&self, who: &str) -> String {
        let Self { message, traceback, .. } = self;
        match traceback.trim_end() {
            more if more.is_empty() || more == message => format!("{who} cannot run its app: {message}"),
            more => format!("{who} cannot run its app: {message}\n{more}"),
        }
    }
}
