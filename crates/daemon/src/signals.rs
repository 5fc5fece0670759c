//! The signals that a service handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalEvent {
    /// SIGTERM: finish running requests, then exit.
    Stop,
    /// SIGINT, from Ctrl-C or `imperium up`: the same, and leave no processes behind.
    Interrupt,
    /// SIGHUP: reload the configuration.
    Reload,
}

/// Receives SIGTERM, SIGINT and SIGHUP.
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
    ///
    /// Returns an error if a handler can't be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalEvent {
        tokio::select! {
            _ = self.terminate.recv() => SignalEvent::Stop,
            _ = self.interrupt.recv() => SignalEvent::Interrupt,
            _ = self.hangup.recv() => SignalEvent::Reload,
        }
    }

    /// Waits for SIGTERM or SIGINT. Ignores SIGHUP.
    pub async fn stop(&mut self) {
        while self.next().await == SignalEvent::Reload {}
    }
}
