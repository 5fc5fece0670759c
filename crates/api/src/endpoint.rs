//! Where a worker listens.

use std::fmt;
use std::path::PathBuf;

/// The address of a worker, as the routing table names it.
///
/// As text, it is the path of a unix socket, `tcp://HOST:PORT` or `tls://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket on this machine.
    Unix(PathBuf),
    /// A TCP port, on this machine or on another one.
    Tcp {
        /// Host and port, separated by a colon.
        address: String,
        /// Whether the connection is encrypted.
        tls: bool,
    },
}

impl From<&str> for Endpoint {
    fn from(text: &str) -> Self {
        let tcp = |address: &str, tls| Self::Tcp { address: address.to_owned(), tls };
        match (text.strip_prefix("tcp://"), text.strip_prefix("tls://")) {
            (Some(address), _) => tcp(address, false),
            (_, Some(address)) => tcp(address, true),
            (None, None) => Self::Unix(text.into()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp { address, tls: false } => write!(f, "tcp://{address}"),
            Self::Tcp { address, tls: true } => write!(f, "tls://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_written_as_it_is_read() {
        let tcp = |tls| Endpoint::Tcp { address: "worker.example:9000".to_owned(), tls };
        for (text, expected) in [
            ("/run/imperium/workers/blog-1.sock", Endpoint::Unix("/run/imperium/workers/blog-1.sock".into())),
            ("tcp://worker.example:9000", tcp(false)),
            ("tls://worker.example:9000", tcp(true)),
        ] {
            let endpoint = Endpoint::from(text);
            assert_eq!(endpoint, expected);
            assert_eq!(endpoint.to_string(), text);
        }
    }
}
