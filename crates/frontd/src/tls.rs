//! TLS for every listener: one configuration, and the certificates that it chooses from.
//!
//! Certificates come from a folder of PEM files, and on a development machine from an authority of its
//! own. Both can be replaced while connections go on; handshakes take what is there at the moment. A file that is bad
//! costs nobody else a certificate, nor a running frontd the one that it has.

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

/// The certificates of all hosts, and the TLS configuration that shows them.
pub(crate) struct Certificates {
    authority: Option<Authority>,
    server: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    known: Mutex<Known>,
}

/// What the present choice was made of.
#[derive(Default)]
struct Known {
    folder: Option<PathBuf>,
    files: Folder,
    names: Arc<Names>,
    domains: Vec<String>,
}

impl Certificates {
    /// Reads the certificates, and makes the development authority where one is wanted and not yet there.
    ///
    /// # Errors
    /// When the folder cannot be read, or the authority not be had. A certificate that cannot be used is logged and
    /// passed over.
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

    /// Reads all files again, of another folder if that is what `sources` names now. Where it names none any more, which
    /// may be a folder that is away for a moment, it is the one from before. A certificate that cannot be used is logged,
    /// and what was read from its files before stays in use.
    ///
    /// # Errors
    /// When the folder cannot be read; all that was in use stays in use.
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

    /// Has a development certificate made for each of these domains that has none from a file. They are exact
    /// names or begin with `*.`, in lower case; others are passed over.
    ///
    /// # Errors
    /// When one cannot be made or kept; the other domains have theirs.
    pub(crate) fn set_domains(&self, domains: &[String]) -> Result<(), TlsError> {
        let mut known = self.known.lock();
        if known.domains == domains {
            return Ok(());
        }
        known.domains = domains.to_vec();
        self.choose(&known)
    }

    /// Shakes hands with a client. Its ALPN is `h2` or `http/1.1`, or none.
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

/// TLS 1.2 and 1.3. Session tickets are sealed with a key that all shards share, changed every six hours.
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
