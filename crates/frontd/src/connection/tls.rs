//! TLS for all listeners: one server configuration, and the certificates it selects from.
//!
//! Certificates come from a folder of PEM files and, on a development machine, from a local authority. Both
//! can be replaced while connections are open: each handshake uses the current ones. An invalid file affects
//! no other certificate, and a running frontd keeps the one that it had before.

mod development;
mod error;
mod folder;
mod identity;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use config::frontd::Tls;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio_rustls::TlsAcceptor;

use development::Authority;
pub(crate) use error::TlsError;
use folder::Folder;
use names::{Choice, Names, Resolver};

/// The certificates of all hosts, and the TLS configuration that uses them.
pub(crate) struct Certificates {
    authority: Option<Authority>,
    server: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    known: Mutex<Known>,
}

/// What the current certificates were loaded from.
#[derive(Default)]
struct Known {
    folder: Option<PathBuf>,
    files: Folder,
    names: Arc<Names>,
    domains: Vec<String>,
}

impl Certificates {
    /// Reads the certificates, and creates the development authority if it is configured and doesn't exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder can't be read or the authority isn't available. A certificate that
    /// can't be used is logged and skipped.
    pub(crate) fn new(sources: &Tls) -> Result<Self, TlsError> {
        let resolver = Arc::new(Resolver::default());
        let certificates = Self {
            authority: sources.development.as_deref().map(Authority::open).transpose()?,
            server: server_config(Arc::clone(&resolver))?,
            resolver,
            known: Mutex::default(),
        };
        certificates.reload(sources)?;
        Ok(certificates)
    }

    /// Reads all files again, from the folder that `sources` names now. If it names none, which may be
    /// because the folder is temporarily missing, the previous folder is used. A certificate that can't be
    /// used is logged, and the previous one from the same files stays in use.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder can't be read. All certificates stay in use then.
    pub(crate) fn reload(&self, sources: &Tls) -> Result<(), TlsError> {
        let mut known = self.known.lock();
        if let Some(folder) = sources.certificates.clone().or_else(|| known.folder.clone()) {
            known.files = Folder::read(&folder, &known.files)?;
            known.files.warn();
            known.names = Arc::new(known.files.names(&folder));
            known.folder = Some(folder);
        }
        self.choose(&known)
    }

    /// Creates a development certificate for each of these domains that no file covers. Domains are exact
    /// names or start with `*.`, in lower case. Others are skipped.
    ///
    /// # Errors
    ///
    /// Returns an error if a certificate can't be created or saved. The other domains get theirs.
    pub(crate) fn set_domains(&self, domains: &[String]) -> Result<(), TlsError> {
        let mut known = self.known.lock();
        if known.domains == domains {
            return Ok(());
        }
        known.domains = domains.to_vec();
        self.choose(&known)
    }

    /// The acceptor for TLS handshakes. ALPN is `h2`, `http/1.1`, or none.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    fn choose(&self, known: &Known) -> Result<(), TlsError> {
        let files = Arc::clone(&known.names);
        let missing = known.domains.iter().map(String::as_str).filter(|domain| !files.covers(domain));
        let (development, outcome) = match &self.authority {
            Some(authority) => authority.certify(missing),
            None => (Names::default(), Ok(())),
        };
        self.resolver.replace(Choice { files, development });
        outcome
    }
}

/// TLS 1.2 and 1.3. Session tickets are encrypted with a key that all shards share and that rotates every six
/// hours.
fn server_config(resolver: Arc<Resolver>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
