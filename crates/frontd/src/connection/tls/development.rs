//! A local certificate authority for the hosts of a development machine.
//!
//! ```text
//! FOLDER/ca.pem            to be trusted by browsers and clients; valid for 10 years
//! FOLDER/ca.key            mode 0600
//! FOLDER/leaves/NAME.pem   certificate, authority and key of one host; mode 0600; renewed before it expires
//! ```

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use config::frontd::Tls;

use super::CertificateSource;
use super::error::TlsError;
use super::identity::{Identity, read_chain};
use super::names::Names;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// New certificates are valid from this long ago, for clients whose clock is slow.
const SLACK: Duration = DAY;
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// With `SLACK`, at most the 397 days that browsers accept.
const LEAF_LIFE: Duration = Duration::from_secs(395 * DAY.as_secs());
/// Certificates that expire sooner are renewed.
const RENEW: Duration = Duration::from_secs(30 * DAY.as_secs());

/// The names of the machine itself. The first one names the file.
const LOCALHOST: &[&str] = &["localhost", "127.0.0.1", "::1"];

pub(super) struct Authority {
    folder: PathBuf,
    identity: Identity,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateSource for Authority {
    /// What it has issued doesn't change.
    fn reload(&mut self, _config: &Tls) -> Result<(), TlsError> {
        Ok(())
    }

    /// Creates a certificate for each domain that can have one, and for the machine itself.
    fn certify(&mut self, missing: &[&str]) -> (Arc<Names>, Result<(), TlsError>) {
        let (names, outcome) = self.issue(missing.iter().copied());
        (Arc::new(names), outcome)
    }
}

impl Authority {
    /// Opens the authority in `folder`, or creates it.
    pub(super) fn open(folder: &Path) -> Result<Self, TlsError> {
        let leaves = folder.join("leaves");
        fs::create_dir_all(&leaves).map_err(TlsError::save(&leaves))?;
        // `imperium up APP` uses a link in a temporary folder. The log shows the path that remains.
        let folder = &folder.canonicalize().map_err(TlsError::read(folder))?;
        // Two daemons that start at the same time must not both create one.
        let lock = File::open(folder).map_err(TlsError::read(folder))?;
        lock.lock().map_err(TlsError::save(folder))?;
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        match (certificate.is_file(), key.is_file()) {
            (true, true) => {}
            (false, false) => make_authority(&certificate, &key)?,
            (true, false) => return Err(TlsError::HalfAuthority { there: certificate, missing: key }),
            (false, true) => return Err(TlsError::HalfAuthority { there: key, missing: certificate }),
        }
        let authority = Self::read(folder, &certificate, &key)?;
        if authority.identity.is_valid_for(RENEW) {
            return Ok(authority);
        }
        tracing::warn!(path = %certificate.display(), "the local certificate authority is about to expire: created a new one, trust that instead");
        make_authority(&certificate, &key)?;
        Self::read(folder, &certificate, &key)
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn read(folder: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let identity = Identity::read(certificate, key)?;
        let pem = fs::read_to_string(certificate).map_err(TlsError::read(certificate))?;
        let private = fs::read_to_string(key).map_err(TlsError::read(key))?;
        let issuer = KeyPair::from_pem(&private)
            .and_then(|key| Issuer::from_ca_cert_der(&identity.chain()[0], key))
            .map_err(|_| TlsError::Malformed { path: certificate.to_owned() })?;
        Ok(Self { folder: folder.to_owned(), identity, pem, issuer })
    }

    /// Returns certificates for the machine itself and for each of these domains that can have one. Also
    /// returns the first error, if any: the other domains still get their certificates.
    fn issue<'a>(&self, domains: impl Iterator<Item = &'a str>) -> (Names, Result<(), TlsError>) {
        let mut names = Names::default();
        let mut outcome = self.leaf(LOCALHOST).map(|localhost| {
            names.insert(&localhost);
            names.set_default(&localhost);
        });
        for domain in domains.filter(|domain| can_have_certificate(domain)) {
            let made = self.leaf(&[domain]).map(|leaf| names.insert(&leaf));
            outcome = outcome.and(made);
        }
        (names, outcome)
    }

    fn leaf(&self, names: &[&str]) -> Result<Identity, TlsError> {
        let file = format!("leaves/{}.pem", names[0].replace('*', "_"));
        let path = self.folder.join(file);
        match self.saved(&path, names) {
            Some(kept) => Ok(kept),
            None => self.make_leaf(&path, names),
        }
    }

    /// The certificate in this file, if this authority issued it and it is still good.
    fn saved(&self, path: &Path, names: &[&str]) -> Option<Identity> {
        let chain = read_chain(path).ok()?;
        let kept = Identity::read(path, path).ok()?;
        let is_ours = chain.last() == self.identity.chain().first();
        let is_for = names.iter().all(|name| kept.names.iter().any(|it| it == name));
        (is_ours && is_for && kept.is_valid_for(RENEW)).then_some(kept)
    }

    fn make_leaf(&self, path: &Path, names: &[&str]) -> Result<Identity, TlsError> {
        let make = || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params =
                CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            params.distinguished_name = common_name(names[0]);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.use_authority_key_identifier_extension = true;
            set_validity(&mut params, LEAF_LIFE);
            Ok((params.signed_by(&key, &self.issuer)?, key))
        };
        let (leaf, key) = make().map_err(TlsError::make(names[0]))?;
        let authority = &self.identity.chain()[0];
        save(path, &[&leaf.pem(), &self.pem, &*key.serialize_pem()].concat(), 0o600)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::new(vec![leaf.der().clone(), authority.clone()], private, path, path)
    }
}

fn make_authority(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let make = || {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // Clients look up authorities by name, so two of them must have different names.
        params.distinguished_name = common_name(&format!("Imperium development {:08x}", fastrand::u32(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_LIFE);
        Ok((params.self_signed(&key)?, key))
    };
    let (made, private) = make().map_err(TlsError::make("the development authority"))?;
    save(key, &private.serialize_pem(), 0o600)?;
    save(certificate, &made.pem(), 0o644)?;
    tracing::info!(path = %certificate.display(), "created a local certificate authority: trust it to avoid browser warnings");
    Ok(())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::from(SystemTime::now());
    params.not_before = now - SLACK;
    params.not_after = now + life;
}

/// Excludes `*`, which stands for any host; addresses, for which clients send no SNI; and anything that isn't
/// a valid file name.
fn can_have_certificate(domain: &str) -> bool {
    let name = domain.strip_prefix("*.").unwrap_or(domain);
    DnsName::try_from(name).is_ok() && name.parse::<std::net::IpAddr>().is_err()
}

/// Writes a file atomically.
fn save(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(TlsError::save(path))
}
