//! Reads a folder of certificates, in the shapes that administrators keep them in.
//!
//! | certificate chain | private key |
//! |---|---|
//! | `NAME.pem` | in the same file, or else `NAME.key` |
//! | `NAME.crt` or `NAME.cer` | `NAME.key` |
//! | `NAME/fullchain.pem` | `NAME/privkey.pem`, as certbot has it |

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::TlsError;
use super::identity::{Identity, read_key};
use super::names::Names;

/// Reads all. The default is the one that is called `default`, or else the first by file name.
pub(super) fn read(folder: &Path) -> Result<Names, TlsError> {
    let mut identities = Vec::new();
    for (certificate, key) in pairs(folder)? {
        let identity = Identity::read(&certificate, &key)?;
        warn_of(&identity, &certificate);
        identities.push((certificate, identity));
    }
    let mut names = Names::default();
    let is_default = |path: &Path| stem(folder, path) == Some("default".as_ref());
    if let Some((_, identity)) =
        identities.iter().find(|(path, _)| is_default(path)).or_else(|| identities.first())
    {
        names.set_default(identity);
    }
    // Where two are for the same name, the one that is valid longest wins.
    identities.sort_by_key(|(_, identity)| identity.expires);
    identities.iter().for_each(|(_, identity)| names.insert(identity));
    Ok(names)
}

/// The name that a certificate goes by in its folder.
fn stem<'a>(folder: &Path, certificate: &'a Path) -> Option<&'a std::ffi::OsStr> {
    match certificate.parent()? {
        parent if parent == folder => certificate.file_stem(),
        parent => parent.file_name(),
    }
}

/// The files of certificates and their keys, by name.
fn pairs(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, TlsError> {
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TlsError::read(folder))? {
        let path = entry.map_err(TlsError::read(folder))?.path();
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let chain = path.join("fullchain.pem");
        match path.extension().and_then(|it| it.to_str()) {
            _ if chain.is_file() => pairs.push((chain, path.join("privkey.pem"))),
            Some("pem") if path.is_file() => pairs.push((path.clone(), key_of_pem(&path)?)),
            Some("crt" | "cer") if path.is_file() => pairs.push((path.clone(), path.with_extension("key"))),
            _ => {}
        }
    }
    pairs.sort();
    Ok(pairs)
}

fn key_of_pem(path: &Path) -> Result<PathBuf, TlsError> {
    let beside = path.with_extension("key");
    Ok(if beside.is_file() && read_key(path)?.is_none() { beside } else { path.to_owned() })
}

fn warn_of(identity: &Identity, path: &Path) {
    if !identity.is_valid_for(Duration::ZERO) {
        tracing::warn!(path = %path.display(), "certificate has expired: renew it");
    }
    if identity.names.is_empty() {
        tracing::warn!(path = %path.display(), "certificate names no host (subjectAltName): no browser takes it");
    }
}
