//! Selects a certificate by the requested server name (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// Certificates by the names they are valid for.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By the part after `*.`: `*.example.org` covers `a.example.org`, but not `a.b.example.org`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Names {
    /// Adds a certificate, which replaces earlier ones for the same names.
    pub(super) fn insert(&mut self, identity: &Identity) {
        for name in &identity.names {
            let (names, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcard, parent),
                None => (&mut self.exact, name.as_str()),
            };
            names.insert(name.into(), Arc::clone(&identity.key));
        }
    }

    /// Sets the certificate for clients that request no host or an unknown one.
    pub(super) fn set_default(&mut self, identity: &Identity) {
        self.default = Some(Arc::clone(&identity.key));
    }

    /// Whether a certificate covers this name, which may start with `*.` itself.
    pub(super) fn covers(&self, name: &str) -> bool {
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.contains_key(parent),
            None => self.get(name).is_some(),
        }
    }

    fn get(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).or_else(wildcard)
    }
}

/// The certificates of all sources. Those of an earlier source take precedence.
#[derive(Debug, Default)]
pub(super) struct Choice(Vec<Arc<Names>>);

impl Choice {
    /// Adds the certificates of the next source.
    pub(super) fn add(&mut self, names: Arc<Names>) {
        self.0.push(names);
    }

    /// Whether any certificate covers this name, which may start with `*.` itself.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.0.iter().any(|it| it.covers(name))
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| self.0.iter().find_map(|names| names.get(name)));
        named.or_else(|| self.0.iter().find_map(|names| names.default.as_ref())).cloned()
    }
}

/// Resolves from the current certificates, which can be replaced at any time.
#[derive(Debug, Default)]
pub(super) struct Resolver(RwLock<Arc<Choice>>);

impl Resolver {
    pub(super) fn replace(&self, choice: Choice) {
        *self.0.write() = Arc::new(choice);
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // SNI has no trailing dot (RFC 6066, section 3) and ignores case.
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.0.read().choose(name.as_deref())
    }
}
