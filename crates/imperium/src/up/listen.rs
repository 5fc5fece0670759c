//! Parses the addresses to listen on from the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::str::FromStr;

/// Where one kind of listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// `off`
    Off,
    /// `8000`, `:80`, `localhost:8005`, `127.0.0.1:8000` or `[::1]:8000`
    At(SocketAddr),
}

/// Why a text isn't an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("write a port (8000), `:80` for every interface, or HOST:PORT such as localhost:8005")]
    Form,
    #[error("`{0}` isn't a port: choose one from 0 to 65535")]
    Port(String),
    #[error("find the address of {0}: {1}")]
    Host(String, String),
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text {
            "off" => Ok(Self::Off),
            _ => address(text).map(Self::At),
        }
    }
}

impl Listen {
    /// Returns the addresses as `frontd.toml` lists them.
    pub(crate) fn addresses(self) -> Vec<SocketAddr> {
        match self {
            Self::Off => Vec::new(),
            Self::At(address) => vec![address],
        }
    }
}

/// Parses an address with a port. A port alone means 127.0.0.1.
///
/// # Errors
/// If it has no port, or if its host has no address.
pub(crate) fn address(text: &str) -> Result<SocketAddr, ListenError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        return if is_number {
            Ok((Ipv4Addr::LOCALHOST, parse_port(text)?).into())
        } else {
            Err(ListenError::Form)
        };
    };
    let port = parse_port(port)?;
    match host {
        "" | "*" => Ok((any_interface(), port).into()),
        // Clients try both address families, but few servers listen on both.
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        _ if host.contains([':', '/', '[']) => Err(ListenError::Form),
        _ => {
            let failed = |why: &dyn ToString| ListenError::Host(host.to_owned(), why.to_string());
            let mut found = (host, port).to_socket_addrs().map_err(|it| failed(&it))?;
            found.next().ok_or_else(|| failed(&"it has none"))
        }
    }
}

pub(crate) fn parse_port(text: &str) -> Result<u16, ListenError> {
    text.parse().map_err(|_| ListenError::Port(text.to_owned()))
}

/// The unspecified IPv6 address also accepts IPv4 connections. The kernel may have no IPv6.
fn any_interface() -> IpAddr {
    if Path::new("/proc/net/if_inet6").exists() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_addresses() {
        let at = |text: &str| text.parse().map(Listen::At).unwrap();
        for (text, expected) in [
            ("off", Listen::Off),
            ("8000", at("127.0.0.1:8000")),
            ("localhost:8005", at("127.0.0.1:8005")),
            ("0.0.0.0:80", at("0.0.0.0:80")),
            ("[::1]:80", at("[::1]:80")),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [":80", "*:80"] {
            let Ok(Listen::At(any)) = text.parse() else { panic!("{text}") };
            assert!(any.ip().is_unspecified() && any.port() == 80, "{any}");
        }
    }

    #[test]
    fn invalid_addresses_are_explained() {
        let refused = |text: &str| text.parse::<Listen>().unwrap_err().to_string();
        for text in ["", "on", "localhost", "http://localhost:80", "::1"] {
            let error = refused(text);
            assert!(error.contains("HOST:PORT") || text == "::1", "{text}: {error}");
        }
        assert_eq!(refused("127.0.0.1:99999"), "`99999` isn't a port: choose one from 0 to 65535");
        assert_eq!(refused("99999"), "`99999` isn't a port: choose one from 0 to 65535");
        assert_eq!(refused("localhost:http"), "`http` isn't a port: choose one from 0 to 65535");
        assert!(refused("no-such-host.invalid:80").starts_with("find the address of no-such-host.invalid: "));
    }
}
