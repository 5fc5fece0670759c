//! A host name of an app.

use std::fmt;
use std::net::Ipv6Addr;

use config::Wrong;

/// A host name in lower case, a name with `*.` in front for any single label, or `*` for any host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

impl Domain {
    /// Parses a host name (RFC 1123, section 2.1) or a wildcard.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is a URL, contains a port, or isn't a host name.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let host = name.strip_prefix("*.").unwrap_or(name);
        if let Some(address) = ipv6(name) {
            return Ok(Self(format!("[{address}]")));
        }
        if name == "*" || is_host(host) {
            return Ok(Self(name.to_owned()));
        }
        Err(refuse(text))
    }

    /// The name, as used in the routing table.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_host(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    matches!(label.len(), 1..=63)
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Parses an IPv6 address, with or without brackets (RFC 3986, section 3.2.2).
fn ipv6(name: &str) -> Option<Ipv6Addr> {
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse().ok()
}

fn refuse(text: &str) -> Wrong {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    let host = without_port(authority);
    let wrong = |what: &str| Wrong::new(format!("must be host names, but `{}` {what}", shorten(text)));
    let bare = format!("write \"{host}\"");
    if text.is_empty() {
        wrong("is empty").hint("write for example \"blog.example\", or \"*\" for any host")
    } else if after_scheme != text {
        wrong("has a scheme").hint(bare)
    } else if authority != text {
        wrong("has a path").hint(format!("{bare}, and path = \"{}\"", &text[authority.len()..]))
    } else if host != authority {
        wrong("has a port").hint(format!("{bare}: ports are set in frontd.toml"))
    } else if host.contains(':') {
        wrong("isn't an IPv6 address").hint("write for example \"[2001:db8::1]\"")
    } else if !text.is_ascii() {
        wrong("is not ASCII").hint("write it in punycode, such as \"xn--bcher-kva.example\"")
    } else if host.contains('*') {
        wrong("has a `*` in the wrong place")
            .hint("write \"*.\" before a whole name, or \"*\" alone for any host")
    } else {
        wrong("isn't one").hint("labels have 1 to 63 letters, digits and `-`, with a dot between them")
    }
}

/// Returns a host without the port that may follow it. A name with several colons is an IPv6 address without brackets.
fn without_port(authority: &str) -> &str {
    match authority.split_once(']') {
        Some((address, _)) => &authority[..=address.len()],
        None if authority.matches(':').count() > 1 => authority,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
