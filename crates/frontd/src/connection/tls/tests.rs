//! Real handshakes of a strict rustls client with certificates in a folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore};
use rustls::{SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio_rustls::TlsConnector;

use super::folder::Folder;
use super::*;

/// A folder of certificates, and the authority that issued them.
struct Fixture {
    temp: TempDir,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

impl Fixture {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        fs::create_dir(temp.path().join("certificates")).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority_pem = params.self_signed(&key).unwrap().pem();
        Self { temp, authority: Issuer::new(params, key), authority_pem }
    }

    fn folder(&self) -> PathBuf {
        self.temp.path().join("certificates")
    }

    fn development(&self) -> PathBuf {
        self.temp.path().join("development")
    }

    fn files(&self) -> Tls {
        Tls { certificates: Some(self.folder()), development: None }
    }

    fn both(&self) -> Tls {
        Tls { certificates: Some(self.folder()), development: Some(self.development()) }
    }

    /// Issues a certificate for these names. Returns it and its key as PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// Writes a certificate and its key to one file.
    fn put(&self, file: &str, names: &[&str]) {
        let (certificate, key) = self.issue(names);
        self.write(file, &(certificate + &key));
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A client that trusts the test authority, and the development authority if there is one.
    fn client(&self) -> ClientConfig {
        self.client_of(&[&version::TLS13, &version::TLS12])
    }

    fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_with(aws_lc_rs::default_provider(), versions)
    }

    fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority_pem.as_bytes()).unwrap()).unwrap();
        if let Ok(authority) = CertificateDer::from_pem_file(self.development().join("ca.pem")) {
            roots.add(authority).unwrap();
        }
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions);
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

/// The result of a handshake.
#[derive(Debug)]
struct Handshake {
    certificate: CertificateDer<'static>,
    alpn: Option<Vec<u8>>,
    version: ProtocolVersion,
    kind: HandshakeKind,
    suite: rustls::CipherSuite,
}

impl Handshake {
    fn new(client: &ClientConnection) -> Self {
        Self {
            certificate: client.peer_certificates().unwrap()[0].clone().into_owned(),
            alpn: client.alpn_protocol().map(<[u8]>::to_vec),
            version: client.protocol_version().unwrap(),
            kind: client.handshake_kind().unwrap(),
            suite: client.negotiated_cipher_suite().unwrap().suite(),
        }
    }

    fn names(&self) -> Vec<String> {
        use x509_parser::prelude::FromDer;
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&self.certificate).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        names.value.general_names.iter().map(ToString::to_string).collect()
    }
}

/// Connects like a browser that opens this host. An error is the client's verdict on the certificate.
async fn connect(certificates: &Certificates, client: ClientConfig, host: &str) -> Result<Handshake, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut stream = certificates.acceptor().accept(far).await?;
        stream.write_all(b"!").await?;
        stream.shutdown().await
    };
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let client = async {
        let mut stream =
            TlsConnector::from(Arc::new(client)).connect(name, near).await.map_err(|it| it.to_string())?;
        // Session tickets are sent after the handshake.
        stream.read_u8().await.map_err(|it| it.to_string())?;
        Ok(Handshake::new(stream.get_ref().1))
    };
    let (handshake, _) = tokio::join!(client, server);
    handshake
}

#[track_caller]
fn assert_fails<T>(result: Result<T, TlsError>, parts: &[&str]) {
    assert_says(&result.err().expect("the certificates were accepted").to_string(), parts);
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert!(!error.contains("PRIVATE KEY"), "{error}");
}

#[tokio::test]
async fn the_server_name_selects_the_certificate() {
    let fixture = Fixture::new();
    fixture.put("b-site.pem", &["example.org", "www.example.org"]);
    fixture.put("wild.pem", &["*.example.org"]);
    fixture.put("a-first.pem", &["first.example"]);
    let certificates = Certificates::new(&fixture.files()).unwrap();
    for (host, names) in [
        ("example.org", vec!["DNSName(example.org)", "DNSName(www.example.org)"]),
        ("WWW.Example.ORG", vec!["DNSName(example.org)", "DNSName(www.example.org)"]),
        ("shop.example.org", vec!["DNSName(*.example.org)"]),
        ("first.example", vec!["DNSName(first.example)"]),
    ] {
        let handshake = connect(&certificates, fixture.client(), host).await.unwrap();
        assert_eq!(handshake.names(), names, "{host}");
    }
    // A star covers one label. An unknown name gets the default certificate, which isn't valid for it.
    for host in ["a.b.example.org", "unknown.example"] {
        let error = connect(&certificates, fixture.client(), host).await.unwrap_err();
        assert!(error.contains("first.example"), "{host}: {error}");
    }
}

#[tokio::test]
async fn all_folder_layouts_are_read() {
    let fixture = Fixture::new();
    for (certificate, key, host) in [
        ("one.pem", "one.pem", "one.example"),
        ("two.pem", "two.key", "two.example"),
        ("three.crt", "three.key", "three.example"),
        ("four.cer", "four.key", "four.example"),
        ("five.example/fullchain.pem", "five.example/privkey.pem", "five.example"),
    ] {
        let (chain, private) = fixture.issue(&[host]);
        fixture.write(certificate, &chain);
        let together = if certificate == key { chain } else { String::new() };
        fixture.write(key, &(together + &private));
    }
    fixture.write("README", "not a certificate");
    fixture.write(".hidden.pem", "not a certificate");
    fixture.write("empty/README", "not a certificate");
    let certificates = Certificates::new(&fixture.files()).unwrap();
    for host in ["one.example", "two.example", "three.example", "four.example", "five.example"] {
        assert_eq!(
            connect(&certificates, fixture.client(), host).await.unwrap().names(),
            [format!("DNSName({host})")]
        );
    }
}

#[tokio::test]
async fn the_default_certificate_can_be_named() {
    let fixture = Fixture::new();
    fixture.put("a.pem", &["a.example"]);
    fixture.put("default.pem", &["z.example"]);
    let certificates = Certificates::new(&fixture.files()).unwrap();
    let error = connect(&certificates, fixture.client(), "unknown.example").await.unwrap_err();
    assert!(error.contains("z.example"), "{error}");
}

#[tokio::test]
async fn http2_both_tls_versions_and_resumption_are_supported() {
    let fixture = Fixture::new();
    fixture.put("a.pem", &["a.example"]);
    let certificates = Certificates::new(&fixture.files()).unwrap();

    let client = fixture.client();
    let first = connect(&certificates, client.clone(), "a.example").await.unwrap();
    assert_eq!(first.alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!((first.version, first.kind), (ProtocolVersion::TLSv1_3, HandshakeKind::Full));
    let second = connect(&certificates, client, "a.example").await.unwrap();
    assert_eq!(second.kind, HandshakeKind::Resumed);

    let mut old = fixture.client_of(&[&version::TLS12]);
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handshake = connect(&certificates, old, "a.example").await.unwrap();
    assert_eq!(handshake.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(handshake.version, ProtocolVersion::TLSv1_2);
}

#[tokio::test]
async fn the_server_chooses_the_cipher_suite() {
    let fixture = Fixture::new();
    fixture.put("a.pem", &["a.example"]);
    let certificates = Certificates::new(&fixture.files()).unwrap();
    let suites = aws_lc_rs::default_provider().cipher_suites;
    for version in [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2] {
        let of_version: Vec<_> =
            suites.iter().copied().filter(|it| it.version().version == version).collect();
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = of_version.iter().copied().rev().collect();
        let client = fixture.client_with(provider, &[&version::TLS12, &version::TLS13]);
        // The first one that works with the certificate's key.
        let chosen = connect(&certificates, client, "a.example").await.unwrap().suite;
        let usable = of_version.iter().find(|it| !format!("{:?}", it.suite()).contains("_RSA_"));
        assert_eq!(chosen, usable.unwrap().suite(), "{version:?}");
    }
}

#[tokio::test]
async fn a_reload_uses_new_certificates_and_keeps_the_old_ones_of_broken_files() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        fixture.put(&format!("{name}.pem"), &[&format!("{name}.example")]);
    }
    let certificates = Certificates::new(&fixture.files()).unwrap();
    let shown =
        async |host: &str| connect(&certificates, fixture.client(), host).await.map(|it| it.certificate);
    let (a, b) = (shown("a.example").await.unwrap(), shown("b.example").await.unwrap());

    fixture.write("a.pem", "torn");
    fixture.put("b.pem", &["b.example"]);
    fs::remove_file(fixture.folder().join("c.pem")).unwrap();
    fixture.put("d.pem", &["d.example"]);
    for _ in 0..2 {
        certificates.reload(&fixture.files()).unwrap();
        assert_eq!(shown("a.example").await.unwrap(), a, "the certificate of a broken file changed");
        assert_ne!(shown("b.example").await.unwrap(), b, "the renewed certificate isn't used");
        shown("c.example").await.expect_err("a removed certificate is still used");
        shown("d.example").await.unwrap();
    }

    fixture.put("a.pem", &["a.example"]);
    certificates.reload(&fixture.files()).unwrap();
    assert_ne!(shown("a.example").await.unwrap(), a, "the fixed certificate isn't used");

    fs::remove_dir_all(fixture.folder()).unwrap();
    let none = Tls { certificates: None, development: None };
    for sources in [fixture.files(), none] {
        assert_fails(certificates.reload(&sources), &["read", "certificates", "No such file"]);
        shown("a.example").await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_configured_after_the_start_is_read() {
    let fixture = Fixture::new();
    fixture.put("a.pem", &["a.example"]);
    let certificates = Certificates::new(&Tls { certificates: None, development: None }).unwrap();
    connect(&certificates, fixture.client(), "a.example").await.expect_err("the folder isn't configured");
    certificates.reload(&fixture.files()).unwrap();
    connect(&certificates, fixture.client(), "a.example").await.unwrap();
}

/// The two files of a pair are replaced one after the other. A reload in between keeps the old pair.
#[tokio::test]
async fn half_a_renewal_changes_nothing() {
    let fixture = Fixture::new();
    let (chain, key) = fixture.issue(&["a.example"]);
    fixture.write("a.example/fullchain.pem", &chain);
    fixture.write("a.example/privkey.pem", &key);
    let certificates = Certificates::new(&fixture.files()).unwrap();
    let before = connect(&certificates, fixture.client(), "a.example").await.unwrap().certificate;

    let (chain, key) = fixture.issue(&["a.example"]);
    fixture.write("a.example/fullchain.pem", &chain);
    certificates.reload(&fixture.files()).unwrap();
    assert_eq!(connect(&certificates, fixture.client(), "a.example").await.unwrap().certificate, before);
    fixture.write("a.example/privkey.pem", &key);
    certificates.reload(&fixture.files()).unwrap();
    assert_ne!(connect(&certificates, fixture.client(), "a.example").await.unwrap().certificate, before);
}

#[tokio::test]
async fn unusable_certificates_are_skipped() {
    let fixture = Fixture::new();
    fixture.write("a-torn.pem", "torn");
    fixture.write("b-alone.crt", &fixture.issue(&["b.example"]).0);
    fixture.write("default.pem", "");
    fixture.put("good.pem", &["good.example"]);
    fixture.put("next.pem", &["next.example"]);
    let certificates = Certificates::new(&fixture.files()).unwrap();
    for host in ["good.example", "next.example"] {
        connect(&certificates, fixture.client(), host).await.unwrap();
    }
    let error = connect(&certificates, fixture.client(), "b.example").await.unwrap_err();
    assert!(error.contains("good.example"), "the first usable certificate is the default: {error}");
}

#[test]
fn errors_name_the_file_and_the_fix() {
    let fixture = Fixture::new();
    let (chain, private) = fixture.issue(&["a.example"]);
    let (_, other) = fixture.issue(&["b.example"]);
    let half = &private[..private.len() / 2];
    for (certificate, key, parts) in [
        ("", &*private, vec!["a.crt", "it has none", "whole chain"]),
        (&*chain, "", vec!["a.crt", "a.key", "private key", "without a passphrase"]),
        (
            &*chain,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            vec!["a.key"],
        ),
        (&*chain, &*other, vec!["a.crt", "a.key", "doesn't belong to the first certificate", "renewal"]),
        (&*chain, half, vec!["a.key", "damaged"]),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &*private,
            vec!["a.crt", "damaged"],
        ),
        ("-----BEGIN CERTIFICATE-----\nAA", &*private, vec!["a.crt", "damaged"]),
    ] {
        fixture.write("a.crt", certificate);
        fixture.write("a.key", key);
        assert_refused(&fixture, &parts);
    }
    fixture.write("a.crt", &chain);
    fs::remove_file(fixture.folder().join("a.key")).unwrap();
    assert_refused(&fixture, &["read", "a.key", "No such file", "frontd's user can read it"]);
    fixture.write("a.key", &"x".repeat(1024 * 1024 + 1));
    assert_refused(&fixture, &["read", "a.key", "larger", "only the chain and the key"]);

    for file in ["a.crt", "b/fullchain.pem"] {
        fs::remove_file(fixture.folder().join("a.crt")).unwrap();
        let link = fixture.folder().join(file);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(fixture.folder().join("gone.pem"), link).unwrap();
        assert_refused(&fixture, &["read", file, "No such file"]);
    }
    fs::remove_dir_all(fixture.folder()).unwrap();
    assert_fails(Certificates::new(&fixture.files()), &["read", "certificates", "No such file"]);
}

/// Asserts that exactly one certificate is refused, with an error that contains these parts.
#[track_caller]
fn assert_refused(fixture: &Fixture, parts: &[&str]) {
    let folder = Folder::read(&fixture.folder(), &Folder::default()).unwrap();
    let refused: Vec<_> = folder.refused.values().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_says(&refused[0], parts);
}

#[tokio::test]
async fn development_certificates_are_issued_by_the_saved_authority() {
    let fixture = Fixture::new();
    let certificates = Certificates::new(&fixture.both()).unwrap();
    let domains: Vec<String> =
        ["flask.localhost", "*.tenants.localhost", "*", "10.0.0.1", "../x"].map(str::to_owned).into();
    certificates.set_domains(&domains).unwrap();
    let mut seen = Vec::new();
    for host in ["flask.localhost", "a.tenants.localhost", "localhost", "127.0.0.1", "::1"] {
        seen.push(connect(&certificates, fixture.client(), host).await.unwrap().certificate);
    }
    let error = connect(&certificates, fixture.client(), "django.localhost").await.unwrap_err();
    assert!(error.contains("localhost"), "an unknown name gets the certificate of localhost: {error}");

    let again = Certificates::new(&fixture.both()).unwrap();
    again.set_domains(&domains[..2]).unwrap();
    for (host, before) in ["flask.localhost", "a.tenants.localhost", "localhost"].iter().zip(&seen) {
        assert_eq!(
            &connect(&again, fixture.client(), host).await.unwrap().certificate,
            before,
            "the certificate of {host} changed"
        );
    }
    again.set_domains(&["django.localhost".to_owned()]).unwrap();
    connect(&again, fixture.client(), "django.localhost").await.unwrap();
    assert!(connect(&again, fixture.client(), "flask.localhost").await.is_err(), "the domain was removed");
}

#[test]
fn the_authority_follows_a_link_to_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    let (kept, link) = (temp.path().join("kept"), temp.path().join("link"));
    fs::create_dir(&kept).unwrap();
    symlink(&kept, &link).unwrap();
    let authority = Authority::open(&link).unwrap();
    assert_eq!(authority.folder(), kept.canonicalize().unwrap());
    assert!(kept.join("ca.pem").is_file());
}

#[tokio::test]
async fn a_real_certificate_wins_over_a_development_one() {
    let fixture = Fixture::new();
    fixture.put("real.pem", &["*.example.org"]);
    let certificates = Certificates::new(&fixture.both()).unwrap();
    certificates.set_domains(&["shop.example.org".to_owned(), "b.localhost".to_owned()]).unwrap();
    let handshake = connect(&certificates, fixture.client(), "shop.example.org").await.unwrap();
    assert_eq!(handshake.names(), ["DNSName(*.example.org)"]);
    connect(&certificates, fixture.client(), "b.localhost").await.unwrap();
    assert!(!fixture.development().join("leaves/shop.example.org.pem").exists());
}

#[test]
fn keys_are_private_and_the_authority_is_public() {
    let fixture = Fixture::new();
    drop(Certificates::new(&fixture.both()).unwrap());
    for (file, mode) in [("ca.pem", 0o644), ("ca.key", 0o600), ("leaves/localhost.pem", 0o600)] {
        let found = fs::metadata(fixture.development().join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
}

#[tokio::test]
async fn certificates_of_a_former_authority_are_renewed() {
    let fixture = Fixture::new();
    drop(Certificates::new(&fixture.both()).unwrap());
    for file in ["ca.pem", "ca.key"] {
        fs::remove_file(fixture.development().join(file)).unwrap();
    }
    let certificates = Certificates::new(&fixture.both()).unwrap();
    connect(&certificates, fixture.client(), "localhost").await.unwrap();
}

#[test]
fn an_incomplete_authority_is_not_silently_replaced() {
    let fixture = Fixture::new();
    drop(Certificates::new(&fixture.both()).unwrap());
    let key = fixture.development().join("ca.key");
    fs::remove_file(&key).unwrap();
    assert_fails(Certificates::new(&fixture.both()), &["ca.pem", "ca.key", "delete both"]);
    assert!(!key.exists());
}

#[test]
fn certificates_are_not_valid_for_longer_than_browsers_accept() {
    use x509_parser::prelude::FromDer;
    let fixture = Fixture::new();
    drop(Certificates::new(&fixture.both()).unwrap());
    let life = |file: &Path| {
        let der = CertificateDer::from_pem_file(file).unwrap();
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        let validity = parsed.validity();
        (validity.not_after.timestamp() - validity.not_before.timestamp()) / (24 * 3600)
    };
    assert!(life(&fixture.development().join("leaves/localhost.pem")) <= 397);
    assert!(life(&fixture.development().join("ca.pem")) >= 3650);
}

#[test]
fn debug_output_shows_no_key() {
    let fixture = Fixture::new();
    fixture.put("a.pem", &["a.example"]);
    let printed = format!("{:?}", Certificates::new(&fixture.both()).unwrap());
    assert_eq!(printed, "Certificates { .. }");
}
