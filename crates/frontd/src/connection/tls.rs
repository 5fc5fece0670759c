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
use std::sync::Arc;

use config::frontd::Tls;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio_rustls::TlsAcceptor;

use development::Authority;
pub(crate) use error::TlsError;
use folder::Files;
use names::{Choice, Names, Resolver};

/// Where certificates come from.
trait CertificateSource: Send {
    /// Reads what the source is made of again, from where `config` says.
    ///
    /// # Errors
    ///
    /// Returns an error if the source can't be read. It keeps what it had.
    fn reload(&mut self, config: &Tls) -> Result<(), TlsError>;

    /// The certificates, which should include one for each of `missing`: domains that no earlier source
    /// covers. Domains are exact names or start with `*.`, in lower case.
    ///
    /// # Errors
    ///
    /// Also returns the first error, if any: the other domains still get their certificates.
    fn certify(&mut self, missing: &[&str]) -> (Arc<Names>, Result<(), TlsError>);
}

/// The certificates of all hosts, and the TLS configuration that uses them.
pub(crate) struct Certificates {
    server: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    sources: Mutex<Sources>,
}

/// Where the current certificates come from, and for which domains.
struct Sources {
    /// An earlier one takes precedence.
    all: Vec<Box<dyn CertificateSource>>,
    domains: Vec<String>,
}

impl Certificates {
    /// Reads the certificates, and creates the development authority if it is configured and doesn't exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder can't be read or the authority isn't available. A certificate that
    /// can't be used is logged and skipped.
    pub(crate) fn new(config: &Tls) -> Result<Self, TlsError> {
        let resolver = Arc::new(Resolver::default());
        let authority = config.development.as_deref().map(Authority::open).transpose()?;
        let mut all: Vec<Box<dyn CertificateSource>> = vec![Box::new(Files::default())];
        all.extend(authority.map(|it| Box::new(it) as _));
        let sources = Mutex::new(Sources { all, domains: Vec::new() });
        let certificates = Self { server: server_config(Arc::clone(&resolver))?, resolver, sources };
        certificates.reload(config)?;
        Ok(certificates)
    }

    /// Reads all files again, from the folder that `config` names now. If it names none, which may be
    /// because the folder is temporarily missing, the previous folder is used. A certificate that can't be
    /// used is logged, and the previous one from the same files stays in use.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder can't be read. All certificates stay in use then.
    pub(crate) fn reload(&self, config: &Tls) -> Result<(), TlsError> {
        let mut sources = self.sources.lock();
        sources.all.iter_mut().try_for_each(|it| it.reload(config))?;
        self.choose(&mut sources)
    }

    /// Asks for a certificate for each of these domains that has none. Domains are exact names or start with
    /// `*.`, in lower case. Others are skipped.
    ///
    /// # Errors
    ///
    /// Returns an error if a certificate can't be created or saved. The other domains get theirs.
    pub(crate) fn set_domains(&self, domains: &[String]) -> Result<(), TlsError> {
        let mut sources = self.sources.lock();
        if sources.domains == domains {
            return Ok(());
        }
        sources.domains = domains.to_vec();
        self.choose(&mut sources)
    }

    /// The acceptor for TLS handshakes. ALPN is `h2`, `http/1.1`, or none.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    fn choose(&self, Sources { all, domains }: &mut Sources) -> Result<(), TlsError> {
        let (mut choice, mut outcome) = (Choice::default(), Ok(()));
        for source in all {
            let missing: Vec<_> =
                domains.iter().map(String::as_str).filter(|it| !choice.covers(it)).collect();
            let (names, certified) = source.certify(&missing);
            choice.add(names);
            outcome = outcome.and(certified);
        }
        self.resolver.replace(choice);
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
