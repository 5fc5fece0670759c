//! A certificate chain with its private key, read from PEM files.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::error::TlsError;

/// Maximum size of a PEM file, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// In lower case. May start with `*.`.
    pub(super) names: Vec<String>,
    pub(super) expires: SystemTime,
}

impl Identity {
    /// Reads the chain from one file and the key from another, which may be the same.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_chain(certificate)?;
        let private = read_key(key)?;
        let no_key = || TlsError::NoKey { certificate: certificate.to_owned(), key: key.to_owned() };
        Self::new(chain, private.ok_or_else(no_key)?, certificate, key)
    }

    /// Checks that they belong together. The paths are for error messages.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        private: PrivateKeyDer<'static>,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self, TlsError> {
        let (names, expires) = chain
            .first()
            .and_then(|own| describe(own))
            .ok_or_else(|| TlsError::Malformed { path: certificate.to_owned() })?;
        let certified = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
        let key = certified.map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            source => TlsError::Unusable { key: key.to_owned(), source },
        })?;
        Ok(Self { key: Arc::new(key), names, expires })
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(super) fn is_valid_for(&self, time: Duration) -> bool {
        self.expires > SystemTime::now() + time
    }
}

/// Reads all certificates of a PEM file. Never returns an empty chain.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Malformed { path: path.to_owned() })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

/// Reads the first private key of a PEM file, if there is one.
pub(super) fn read_key(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, TlsError> {
    match PrivateKeyDer::from_pem_slice(&read(path)?) {
        Ok(key) => Ok(Some(key)),
        Err(pem::Error::NoItemsFound) => Ok(None),
        // The source error may quote the data that it couldn't decode, which is secret.
        Err(_) => Err(TlsError::MalformedKey { path: path.to_owned() }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut data = Vec::new();
    let file = File::open(path).map_err(TlsError::read(path))?;
    let read = file.take(FILE_MAX + 1).read_to_end(&mut data).map_err(TlsError::read(path))?;
    if read as u64 > FILE_MAX {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    Ok(data)
}

/// The names that a certificate is valid for (not its common name, RFC 6125), and when it expires.
fn describe(certificate: &[u8]) -> Option<(Vec<String>, SystemTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let expires = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    let alternatives = parsed.subject_alternative_name().ok()?;
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    Some((names.filter_map(name).collect(), UNIX_EPOCH + Duration::from_secs(expires)))
}

fn name(general: &GeneralName<'_>) -> Option<String> {
    match general {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    }
}
