//! Errors of certificates and keys, with a hint for each.

use std::io;
use std::path::{Path, PathBuf};

/// Why certificates can't be used. Reveals nothing of a private key but its path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read {}: {source}; check that it exists and that frontd's user can read it", .path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error("read {}: it is larger than a certificate can be; put only the chain and the key there", .path.display())]
    TooLarge { path: PathBuf },

    #[error(
        "read a certificate from {}: it has none; put the whole chain there as PEM, the server's own certificate first",
        .path.display()
    )]
    NoCertificate { path: PathBuf },

    #[error("read a certificate from {}: it is damaged; get a new copy of it", .path.display())]
    Malformed { path: PathBuf },

    #[error("read the private key in {}: it is damaged; get a new copy of it", .path.display())]
    MalformedKey { path: PathBuf },

    #[error(
        "read the private key for {} from {}: it has none; add it as PEM, without a passphrase",
        .certificate.display(), .key.display()
    )]
    NoKey { certificate: PathBuf, key: PathBuf },

    #[error(
        "use {} with {}: the private key doesn't belong to the first certificate; put the server's own certificate \
         first, and take both from the same renewal",
        .certificate.display(), .key.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },

    #[error("use the private key in {}: {source}; use an ECDSA P-256 key or an RSA key of at least 2048 bits", .key.display())]
    Unusable { key: PathBuf, source: rustls::Error },

    #[error(
        "read the development authority: {} exists, but {} doesn't; restore it, or delete both to create a new one",
        .there.display(), .missing.display()
    )]
    HalfAuthority { there: PathBuf, missing: PathBuf },

    #[error(
        "save {}: {source}; `development` under [tls] in frontd.toml must be a folder that frontd can write to",
        .path.display()
    )]
    Save { path: PathBuf, source: io::Error },

    #[error("create a certificate for {name}: {source}")]
    Make { name: String, source: rcgen::Error },

    #[error("set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsError {
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Read { path, source }
    }

    pub(super) fn save(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Save { path, source }
    }

    pub(super) fn make(name: &str) -> impl FnOnce(rcgen::Error) -> Self {
        let name = name.to_owned();
        |source| Self::Make { name, source }
    }
}
