//! An HTTP client that trusts one CA, and connects to one address for every host.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

pub use crate::body::{Body, empty, full, in_pieces};
use crate::connection::Connection;

/// The protocol that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS.
    Http1,
    /// HTTP/2 over TLS.
    Http2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "HTTP",
            Self::Http1 => "HTTP/1.1 over TLS",
            Self::Http2 => "HTTP/2 over TLS",
        })
    }
}

/// A client for one host, with a cookie jar.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    host: String,
    protocol: Protocol,
    tls: Arc<ClientConfig>,
    cookies: Arc<Mutex<BTreeMap<String, String>>>,
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The protocol version of the response.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Client {
    /// Creates a client of `host` at `address` that only trusts the CAs in the PEM file `ca`.
    ///
    /// # Errors
    /// If the file can't be read, or contains no certificate.
    pub fn new(ca: &Path, host: &str, address: SocketAddr, protocol: Protocol) -> anyhow::Result<Self> {
        let tls = Arc::new(trusting(ca, protocol)?);
        Ok(Self { address, host: host.to_owned(), protocol, tls, cookies: Arc::default() })
    }

    /// Opens a new connection.
    ///
    /// # Errors
    /// If nothing is listening, or the certificate isn't trusted for this host.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let tcp =
            TcpStream::connect(self.address).await.with_context(|| format!("connect to {}", self.address))?;
        tcp.set_nodelay(true)?;
        let authority = self.authority();
        match self.protocol {
            Protocol::Plain => Connection::http1(tcp, authority).await,
            Protocol::Http1 => Connection::http1(self.handshake(tcp).await?, authority).await,
            Protocol::Http2 => Connection::http2(self.handshake(tcp).await?, authority).await,
        }
    }

    /// The site's value for a browser's `Origin` header.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.protocol == Protocol::Plain { "http" } else { "https" };
        format!("{scheme}://{}", self.authority())
    }

    /// The protocol that it uses.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.address.port())
    }

    async fn handshake(&self, tcp: TcpStream) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host.clone()).context("a host name")?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, tcp).await.with_context(|| format!("TLS with {}", self.host))?;
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let offered = self.tls.alpn_protocols.first().cloned();
        ensure!(chosen == offered, "{} chose {chosen:?} by ALPN, not {offered:?}", self.host);
        Ok(stream)
    }

    /// GETs `path` on a new connection.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(request(Method::GET, path, empty())).await
    }

    /// POSTs `body` to `path` on a new connection.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let mut request = request(Method::POST, path, full(body));
        request.headers_mut().insert("content-type", HeaderValue::from_str(content_type)?);
        self.send(request).await
    }

    /// Sends a request on a new connection, with the cookies that the host has set.
    ///
    /// # Errors
    /// If no complete response arrives.
    pub async fn send(&self, request: Request<Body>) -> anyhow::Result<Answer> {
        let what = format!("{} {} of {}", request.method(), request.uri(), self.host);
        let response = self.open(request).await.with_context(|| what.clone())?;
        Answer::read(response).await.with_context(|| what)
    }

    /// Like `send`, but the caller reads the body.
    ///
    /// # Errors
    /// If no response head arrives.
    pub async fn open(&self, mut request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        if let Some(cookies) = self.cookie_header() {
            request.headers_mut().insert(COOKIE, cookies);
        }
        let response = self.connect().await?.send(request).await?;
        self.keep_cookies(response.headers());
        Ok(response)
    }

    /// The value of a cookie that the host has set.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn cookie_header(&self) -> Option<HeaderValue> {
        let jar = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { None } else { HeaderValue::from_str(&pairs.join("; ")).ok() }
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        let mut jar = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for header in headers.get_all(SET_COOKIE) {
            let text = header.to_str().unwrap_or_default();
            let pair = text.split(';').next().and_then(|pair| pair.split_once('='));
            let Some((name, value)) = pair else { continue };
            if text.to_ascii_lowercase().contains("max-age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Answer {
    /// Reads the complete body.
    ///
    /// # Errors
    /// If it was cut off.
    pub async fn read(response: Response<Incoming>) -> anyhow::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("read the response's body")?.to_bytes();
        Ok(Self { status: head.status, version: head.version, headers: head.headers, body })
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a header's value, or an empty string if it is missing or isn't text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Parses the body as JSON.
    ///
    /// # Errors
    /// If it isn't valid.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("JSON expected, not {:?}", self.text()))
    }

    /// Checks the status.
    ///
    /// # Errors
    /// If it differs. The error shows the body.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        let text = self.text();
        let begin: String = text.chars().take(500).collect();
        ensure!(self.status.as_u16() == status, "status {status} expected, not {}: {begin}", self.status);
        Ok(self)
    }
}

/// Creates a request for a path. The client sets the host.
///
/// # Panics
/// If the path is invalid.
#[must_use]
pub fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).body(body).expect("a path that a URI may have")
}

/// Returns a TLS configuration that only trusts the certificates in a PEM file, with the protocol's ALPN
/// name.
///
/// # Errors
/// If the file can't be read, or contains no certificate.
pub fn trusting(ca: &Path, protocol: Protocol) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(|| format!("read {}", ca.display()))? {
        roots.add(certificate?).with_context(|| format!("trust {}", ca.display()))?;
    }
    ensure!(!roots.is_empty(), "no certificate in {}", ca.display());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![match protocol {
        Protocol::Http2 => b"h2".to_vec(),
        Protocol::Plain | Protocol::Http1 => b"http/1.1".to_vec(),
    }];
    Ok(config)
}
