//! What all stacks share: a folder, static files, and a TLS key.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use tempfile::TempDir;
use tests::place::Place;

/// The host of every app, which resolves to this machine.
pub(crate) const HOST: &str = "localhost";
const FILES: [(&str, usize); 3] = [("1k.bin", 1 << 10), ("100k.bin", 100 << 10), ("10m.bin", 10 << 20)];

/// The shared folder, which is removed on drop.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) place: Place,
    folder: TempDir,
    stacks: AtomicU32,
}

impl Site {
    /// Creates the files and the key.
    pub(crate) fn make(place: Place) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("imperium-bench-").tempdir();
        let folder = folder.context("make a folder for the stacks")?;
        let site = Self { place, folder, stacks: AtomicU32::new(0) };
        site.make_files()?;
        site.make_key()?;
        Ok(site)
    }

    /// Creates a folder for a stack. Its path is short, as required for unix sockets.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        let number = self.stacks.fetch_add(1, Ordering::Relaxed);
        let folder = self.path().join(number.to_string());
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the static files.
    pub(crate) fn files(&self) -> PathBuf {
        self.path().join("static")
    }

    /// The folder of the certificate.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.path().join("certificates")
    }

    /// The file with the certificate and its key.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.certificates().join("localhost.pem")
    }

    fn make_files(&self) -> anyhow::Result<()> {
        fs::create_dir(self.files())?;
        for (name, length) in FILES {
            let mut bytes = vec![0; length];
            fastrand::fill(&mut bytes);
            fs::write(self.files().join(name), bytes).with_context(|| format!("write {name}"))?;
        }
        Ok(())
    }

    /// ECDSA on P-256, certbot's default.
    fn make_key(&self) -> anyhow::Result<()> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).context("make a certificate")?;
        fs::create_dir(self.certificates())?;
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        fs::write(self.certificate(), pem).context("write the certificate")
    }
}
