//! A hash of the settings that processes depend on, to detect changes that require new ones.

use sha2::{Digest, Sha256};

use crate::{Confinement, DEFAULT_CONCURRENCY, EventLoop, Interface, Preload, Vassal};

/// Identifies the text of an app's file. It reveals nothing of it.
#[must_use]
pub fn text_digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Vassal {
    /// A hash of everything that requires a new process when it changes: app, directory, python, env,
    /// env_file, interface, threads, concurrency, loop, preload, health, the folders of `sendfile`, user, and the limits of memory and cpu.
    ///
    /// It is stable over all runs and versions of the program, and reveals no value of `env`.
    #[must_use]
    pub fn process_fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            // With its length, so that different lists of parts never hash the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(self.app.to_string().as_bytes());
        add(self.directory.as_os_str().as_encoded_bytes());
        add(self.python.path().as_os_str().as_encoded_bytes());
        add(&self.threads.to_be_bytes());
        match self.interface {
            Interface::Auto => {}
            Interface::Wsgi => add(b"interface=wsgi"),
            Interface::Asgi => add(b"interface=asgi"),
        }
        if let Some(concurrency) = self.concurrency.filter(|it| *it != DEFAULT_CONCURRENCY) {
            add(format!("concurrency={concurrency}").as_bytes());
        }
        if self.event_loop != EventLoop::Auto {
            add(format!("loop={}", self.event_loop).as_bytes());
        }
        for (name, value) in &self.env {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        if let Some(env_file) = &self.env_file {
            add(b"env_file");
            add(env_file.as_os_str().as_encoded_bytes());
        }
        match self.preload {
            Preload::Off => {}
            Preload::On => add(b"preload"),
            Preload::WithThreads => add(b"preload with threads"),
        }
        if let Some(health) = &self.health {
            add(b"health");
            add(health.as_str().as_bytes());
        }
        for folder in self.sendfile_folders.values() {
            add(b"sendfile");
            add(folder.as_os_str().as_encoded_bytes());
        }
        // `owner` isn't part of the file: callers that compare versions compare it separately.
        let Confinement { user, owner: _, memory, cpu } = &self.confinement;
        let limits = [memory.map(|it| format!("memory={it}")), cpu.map(|it| format!("cpu={it}"))];
        let user = user.as_ref().map(|it| format!("user={it}"));
        for part in limits.into_iter().chain([user]).flatten() {
            add(part.as_bytes());
        }
        hex(&hash.finalize())
    }
}
