//! Sums up what concerns an app's processes, so that a change of it is seen and any other is not.

use sha2::{Digest, Sha256};

use crate::{Confinement, Preload, Vassal};

impl Vassal {
    /// A hash of what a process has to be started anew for: app, directory, python, env, threads,
    /// preload, health, the folders of `sendfile`, user, and the limits of memory and cpu.
    ///
    /// It is the same in every run and version of the program, and gives no value of `env` away.
    #[must_use]
    pub fn process_fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            // With its length, so that no two lists of parts are the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(self.app.to_string().as_bytes());
        add(self.directory.as_os_str().as_encoded_bytes());
        add(self.python.path().as_os_str().as_encoded_bytes());
        add(&self.threads.to_be_bytes());
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
        // Whoever compares versions compares `owner`, which is not of the file.
        let Confinement { user, owner: _, memory, cpu } = &self.confinement;
        let limits = [memory.map(|it| format!("memory={it}")), cpu.map(|it| format!("cpu={it}"))];
        let user = user.as_ref().map(|it| format!("user={it}"));
        for part in limits.into_iter().chain([user]).flatten() {
            add(part.as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
