//! Errors of certificates and keys, with a hint for each.

use std::io;
use std::path::{Path, PathBuf};

/// Why certificates can't be used. Reveals nothing of a private key but its path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read {}: {source}; put it there, and let frontd's user read it", .path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error("read {}: it is larger than a certificate can be; put only the chain and the key there", .path.display())]
    TooLarge { path: PathBuf },

    #[error(
        "read a certificate from {}: it has none; put the whole chain there as PEM, the server's own certificate first",
        .path.display()
    )]
    NoCertificate { path: PathBuf },

    #[error("read a certificate from {}: it is damaged; get the file anew", .path.display())]
    Malformed { path: PathBuf },

    #[error("read the private key in {}: it is damaged; get the file anew", .path.display())]
    MalformedKey { path: PathBuf },

    #[error(
        "read the private key for {} from {}: it has none; put it there as PEM, without a passphrase",
        .certificate.display(), .key.display()
    )]
    NoKey { certificate: PathBuf, key: PathBuf },

    #[error(
        "use {} with {}: the private key is not that of the first certificate; put the server's own certificate \
         first, and take both from the same renewal",
        .certificate.display(), .key.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },

    #[error("use the private key in {}: {source}; take an ECDSA P-256 or an RSA key of 2048 bits or more", .key.display())]
    Unusable { key: PathBuf, source: rustls::Error },

    #[error(
        "read the development authority: {} is there, but not {}; bring it back, or delete both to have a new one made",
        .there.display(), .missing.display()
    )]
    HalfAuthority { there: PathBuf, missing: PathBuf },

    #[error(
        "keep {}: {source}; `development` under [tls] in frontd.toml names a folder that frontd may write to",
        .path.display()
    )]
    Save { path: PathBuf, source: io::Error },

    #[error("make a certificate for {name}: {source}")]
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
