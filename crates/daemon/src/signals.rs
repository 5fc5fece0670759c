//! The signals that a service answers to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM: finish what is under way, and end.
    Stop,
    /// SIGINT, from a Ctrl-C or from `imperium up`: as above, and leave nothing running behind.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Receives SIGTERM, SIGINT and SIGHUP from here on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits until it is time to stop; what else comes is passed over.
    pub async fn stop(&mut self) {
        while self.next().await == Asked::Reload {}
    }
}
