//! Reads a folder of certificates, in the shapes that administrators keep them in.
//!
//! | certificate chain | private key |
//! |---|---|
//! | `NAME.pem` | in the same file, or else `NAME.key` |
//! | `NAME.crt` or `NAME.cer` | `NAME.key` |
//! | `NAME/fullchain.pem` | `NAME/privkey.pem`, as certbot has it |
//!
//! A certificate that cannot be used takes none of the others with it: the log tells of it, and what was read
//! from its files before stays in use.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::TlsError;
use super::identity::{Identity, read_key};
use super::names::Names;

/// The certificates of a folder, by the files of their chains.
#[derive(Debug, Default)]
pub(super) struct Folder {
    identities: BTreeMap<PathBuf, Identity>,
    /// Which cannot be used now, and why.
    pub(super) refused: BTreeMap<PathBuf, TlsError>,
}

impl Folder {
    /// Reads all. Where one cannot be used now, that of `before` is kept.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub(super) fn read(path: &Path, before: &Self) -> Result<Self, TlsError> {
        let mut folder = Self::default();
        for certificate in certificates(path)? {
            let read = key_of(path, &certificate).and_then(|key| Identity::read(&certificate, &key));
            let identity = match read {
                Ok(identity) => Some(identity),
                Err(error) => {
                    folder.refused.insert(certificate.clone(), error);
                    before.identities.get(&certificate).cloned()
                }
            };
            folder.identities.extend(identity.map(|it| (certificate, it)));
        }
        Ok(folder)
    }

    /// By the names that they are for. The default is the one that is called `default`, or else the first by file
    /// name.
    pub(super) fn names(&self, path: &Path) -> Names {
        let mut names = Names::default();
        let is_default = |file: &Path| stem(path, file) == Some("default".as_ref());
        let named = self.identities.iter().find(|(file, _)| is_default(file));
        if let Some((_, identity)) = named.or_else(|| self.identities.iter().next()) {
            names.set_default(identity);
        }
        // Where two are for the same name, the one that is valid longest wins.
        let mut identities: Vec<_> = self.identities.values().collect();
        identities.sort_by_key(|identity| identity.expires);
        identities.into_iter().for_each(|identity| names.insert(identity));
        names
    }

    /// Logs what an operator should mend.
    pub(super) fn warn(&self) {
        for (path, error) in &self.refused {
            let is_kept = self.identities.contains_key(path);
            let path = path.display();
            if is_kept {
                tracing::warn!(%path, %error, "certificate cannot be used: the one read before stays in use until a restart");
            } else {
                tracing::error!(%path, %error, "certificate can't be used: ignoring it");
            }
        }
        self.identities.iter().for_each(|(path, identity)| warn_of(identity, path));
    }
}

fn warn_of(identity: &Identity, path: &Path) {
    if !identity.is_valid_for(Duration::ZERO) {
        tracing::warn!(path = %path.display(), "certificate has expired: renew it");
    }
    if identity.names.is_empty() {
        tracing::warn!(path = %path.display(), "certificate names no host (subjectAltName): no browser accepts it");
    }
}

/// The name that a certificate goes by in its folder.
fn stem<'a>(folder: &Path, certificate: &'a Path) -> Option<&'a std::ffi::OsStr> {
    match certificate.parent()? {
        parent if parent == folder => certificate.file_stem(),
        parent => parent.file_name(),
    }
}

/// The files of the certificates' chains.
fn certificates(folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let mut certificates = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TlsError::read(folder))? {
        let path = entry.map_err(TlsError::read(folder))?.path();
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let chain = path.join("fullchain.pem");
        match path.extension().and_then(|it| it.to_str()) {
            _ if is_meant(&chain) => certificates.push(chain),
            Some("pem" | "crt" | "cer") if is_meant(&path) => certificates.push(path),
            _ => {}
        }
    }
    Ok(certificates)
}

/// Whether it is a file, or may be one that cannot be reached: a link to nowhere is to be told of, not passed over in
/// silence.
fn is_meant(path: &Path) -> bool {
    match path.metadata() {
        Ok(found) => found.is_file(),
        Err(_) => match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        },
    }
}

/// The file of the private key that goes with a certificate.
fn key_of(folder: &Path, certificate: &Path) -> Result<PathBuf, TlsError> {
    if certificate.parent() != Some(folder) {
        return Ok(certificate.with_file_name("privkey.pem"));
    }
    let beside = certificate.with_extension("key");
    let is_within = certificate.extension().is_some_and(|it| it == "pem")
        && (!beside.is_file() || read_key(certificate)?.is_some());
    Ok(if is_within { certificate.to_owned() } else { beside })
}
