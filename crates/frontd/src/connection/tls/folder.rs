//! Reads a folder of certificates, in the layouts that administrators use.
//!
//! | certificate chain | private key |
//! |---|---|
//! | `NAME.pem` | in the same file, or else `NAME.key` |
//! | `NAME.crt` or `NAME.cer` | `NAME.key` |
//! | `NAME/fullchain.pem` | `NAME/privkey.pem`, as with certbot |
//!
//! A certificate that can't be used doesn't affect the others: it is logged, and the one read from its files
//! before stays in use.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::frontd::Tls;

use super::CertificateSource;
use super::error::TlsError;
use super::identity::{Identity, read_key};
use super::names::Names;

/// The certificates of a folder, by chain file.
#[derive(Debug, Default)]
pub(super) struct Folder {
    identities: BTreeMap<PathBuf, Identity>,
    /// Certificates that can't be used now, and why.
    pub(super) refused: BTreeMap<PathBuf, TlsError>,
}

/// The certificates of the folder that frontd.toml names.
#[derive(Debug, Default)]
pub(super) struct Files {
    path: Option<PathBuf>,
    folder: Folder,
    names: Arc<Names>,
}

impl CertificateSource for Files {
    fn reload(&mut self, config: &Tls) -> Result<(), TlsError> {
        if let Some(path) = config.certificates.clone().or_else(|| self.path.clone()) {
            self.folder = Folder::read(&path, &self.folder)?;
            self.folder.warn();
            self.names = Arc::new(self.folder.names(&path));
            self.path = Some(path);
        }
        Ok(())
    }

    /// It has what is there, whatever is missing.
    fn certify(&mut self, _missing: &[&str]) -> (Arc<Names>, Result<(), TlsError>) {
        (Arc::clone(&self.names), Ok(()))
    }
}

impl Folder {
    /// Reads all certificates. If one can't be used now, the one from `before` is kept.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder itself can't be read.
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

    /// Indexes the certificates by the names they are valid for. The default is the one called `default`,
    /// otherwise the first one by file name.
    pub(super) fn names(&self, path: &Path) -> Names {
        let mut names = Names::default();
        let is_default = |file: &Path| stem(path, file) == Some("default".as_ref());
        let named = self.identities.iter().find(|(file, _)| is_default(file));
        if let Some((_, identity)) = named.or_else(|| self.identities.iter().next()) {
            names.set_default(identity);
        }
        // If several are valid for a name, the one that expires last wins.
        let mut identities: Vec<_> = self.identities.values().collect();
        identities.sort_by_key(|identity| identity.expires);
        identities.into_iter().for_each(|identity| names.insert(identity));
        names
    }

    /// Logs problems that an operator should fix.
    pub(super) fn warn(&self) {
        for (path, error) in &self.refused {
            let is_kept = self.identities.contains_key(path);
            let path = path.display();
            if is_kept {
                tracing::warn!(%path, %error, "certificate can't be used: the one read before stays in use until a restart");
            } else {
                tracing::error!(%path, %error, "certificate can't be used: ignoring it");
            }
        }
        self.identities.iter().for_each(|(path, identity)| warn_about(identity, path));
    }
}

fn warn_about(identity: &Identity, path: &Path) {
    if !identity.is_valid_for(Duration::ZERO) {
        tracing::warn!(path = %path.display(), "certificate has expired: renew it");
    }
    if identity.names.is_empty() {
        tracing::warn!(path = %path.display(), "certificate names no host (subjectAltName): browsers won't accept it");
    }
}

/// The name of a certificate within its folder.
fn stem<'a>(folder: &Path, certificate: &'a Path) -> Option<&'a std::ffi::OsStr> {
    match certificate.parent()? {
        parent if parent == folder => certificate.file_stem(),
        parent => parent.file_name(),
    }
}

/// The chain files in a folder.
fn certificates(folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let mut certificates = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TlsError::read(folder))? {
        let path = entry.map_err(TlsError::read(folder))?.path();
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let chain = path.join("fullchain.pem");
        match path.extension().and_then(|it| it.to_str()) {
            _ if may_exist(&chain) => certificates.push(chain),
            Some("pem" | "crt" | "cer") if may_exist(&path) => certificates.push(path),
            _ => {}
        }
    }
    Ok(certificates)
}

/// Whether this is a file, or may be one that can't be reached: a dangling link is reported instead of being
/// silently skipped.
fn may_exist(path: &Path) -> bool {
    match path.metadata() {
        Ok(found) => found.is_file(),
        Err(_) => match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        },
    }
}

/// The private key file of a certificate.
fn key_of(folder: &Path, certificate: &Path) -> Result<PathBuf, TlsError> {
    if certificate.parent() != Some(folder) {
        return Ok(certificate.with_file_name("privkey.pem"));
    }
    let beside = certificate.with_extension("key");
    let is_within = certificate.extension().is_some_and(|it| it == "pem")
        && (!beside.is_file() || read_key(certificate)?.is_some());
    Ok(if is_within { certificate.to_owned() } else { beside })
}
