//! frontd's configuration file, resolved.

mod reload;
mod schema;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::document::Document;
use crate::layout::{Installation, Layout};
use crate::source::Source;
use crate::{Diagnostics, Wrong, value};
pub use reload::Reloaded;
pub use schema::SCHEMA;

/// frontd's configuration. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontdConfig {
    /// Addresses for plain HTTP/1.1. Empty disables it.
    pub http: Vec<SocketAddr>,
    /// Addresses for HTTP/1.1 and HTTP/2 over TLS. Empty disables it.
    pub https: Vec<SocketAddr>,
    /// The address for probes and metrics.
    pub admin: SocketAddr,
    /// Number of threads, each with its own runtime and accept loop.
    pub shards: NonZeroUsize,
    /// How long requests in flight may take after frontd is told to stop.
    pub drain: Duration,
    /// The sources of certificates.
    pub tls: Tls,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// Limits for clients.
    pub limits: Limits,
    /// The folder of unnamed files with bodies that wait for a slow reader.
    pub spool: PathBuf,
    /// The folder of state that outlives frontd, such as the last routing table.
    pub state: PathBuf,
    /// emperord's socket.
    pub emperord: PathBuf,
}

/// The sources of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A folder of PEM files, each with a certificate chain and its key.
    pub certificates: Option<PathBuf>,
    /// The folder of a local certificate authority, which issues certificates for hosts that have none.
    pub development: Option<PathBuf>,
}

/// Where requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// On stderr, with all other log lines.
    Stderr,
}

/// Limits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections, over all shards.
    pub connections: usize,
    /// Size of a request's line and headers, in bytes.
    pub header_bytes: usize,
    /// How long they may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// Minimum average rate of a request body, in bytes per second. 0 means no limit.
    pub body_rate: u64,
    /// Total time for a request body.
    pub body_timeout: Duration,
    /// How long a client may read nothing of a response.
    pub send_timeout: Duration,
    /// Approximate memory of all responses that wait for their clients, in bytes.
    pub send_memory: u64,
    /// Total size of all spool files, in bytes.
    pub spool_bytes: u64,
    /// The part of it for the requests and responses of one app, in bytes.
    pub spool_per_app: u64,
    /// The part of it for the clients of one address, in bytes.
    pub spool_per_client: u64,
}

impl FrontdConfig {
    /// The defaults of a layout without `frontd.toml`.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let listen = |system: u16, root: u16| match layout.installation {
            Installation::System => vec![SocketAddr::from(([0; 8], system))],
            Installation::Root => vec![SocketAddr::from(([127, 0, 0, 1], root))],
        };
        Self {
            http: listen(80, 8080),
            https: listen(443, 8443),
            admin: SocketAddr::from(([127, 0, 0, 1], 9180)),
            shards: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            drain: Duration::from_secs(30),
            tls: Tls::new(layout),
            access_log: AccessLog::Off,
            limits: Limits::default(),
            spool: layout.state.join("frontd/spool"),
            state: layout.state.join("frontd"),
            emperord: layout.emperord_socket(),
        }
    }

    /// Reads the layout's `frontd.toml`, if it exists.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can't be read, or all its problems.
    pub fn load(layout: &Layout) -> Result<Self, Diagnostics> {
        match Source::read_if_there(&layout.frontd_toml())? {
            Some(source) => Self::parse(source, layout),
            None => Ok(Self::new(layout)),
        }
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// Returns all problems of the file.
    pub fn parse(source: Source, layout: &Layout) -> Result<Self, Diagnostics> {
        let mut file = Document::parse(source, SCHEMA)?;
        let path = value::path(file.folder());
        let default = Self::new(layout);
        let state = file.optional("state", &path).unwrap_or(default.state);
        let config = Self {
            http: file.list("http", value::address).unwrap_or(default.http),
            https: file.list("https", value::address).unwrap_or(default.https),
            admin: file.optional("admin", |it| value::address(value::text(it)?)).unwrap_or(default.admin),
            shards: file.optional("shards", shards).unwrap_or(default.shards),
            drain: file.optional("drain", value::duration(Duration::ZERO..=HOUR)).unwrap_or(default.drain),
            tls: Tls {
                certificates: file.optional("tls.certificates", &path).or(default.tls.certificates),
                development: file.optional("tls.development", &path).or(default.tls.development),
            },
            access_log: file.optional("access_log", access_log).unwrap_or(default.access_log),
            limits: Limits::read(&mut file),
            spool: file.optional("spool", &path).unwrap_or_else(|| state.join("spool")),
            state,
            emperord: file.optional("emperord", &path).unwrap_or(default.emperord),
        };
        file.finish(Some(config))
    }
}

impl Tls {
    /// Whether there is no source of certificates.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_none() && self.development.is_none()
    }

    fn new(layout: &Layout) -> Self {
        let certificates = layout.etc.join("certificates");
        Self {
            certificates: certificates.is_dir().then_some(certificates),
            development: match layout.installation {
                Installation::System => None,
                Installation::Root => Some(layout.state.join("tls")),
            },
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 32 * 1024,
            header_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            body_rate: 1024,
            body_timeout: DAY,
            send_timeout: Duration::from_secs(60),
            send_memory: 512 << 20,
            spool_bytes: SPOOL,
            spool_per_app: SPOOL / 2,
            spool_per_client: SPOOL / 4,
        }
    }
}

/// The default of `limits.spool`, in bytes.
const SPOOL: u64 = 16 << 30;

impl Limits {
    fn read(file: &mut Document) -> Self {
        let default = Self::default();
        let timeout = || value::duration(SHORTEST..=HOUR);
        let header = file.optional("limits.header", value::size(1024..=1024 * 1024));
        let mut spool = |key, default| file.optional(key, value::size(0..=1 << 50)).unwrap_or(default);
        let spool_bytes = spool("limits.spool", default.spool_bytes);
        let spool_per_app = spool("limits.spool_per_app", spool_bytes / 2);
        let spool_per_client = spool("limits.spool_per_client", spool_bytes / 4);
        Self {
            connections: file
                .optional("limits.connections", value::integer(1..=1_000_000))
                .unwrap_or(default.connections),
            header_bytes: header.and_then(|bytes| bytes.try_into().ok()).unwrap_or(default.header_bytes),
            header_timeout: file
                .optional("limits.header_timeout", timeout())
                .unwrap_or(default.header_timeout),
            keep_alive: file.optional("limits.keep_alive", timeout()).unwrap_or(default.keep_alive),
            body_rate: file
                .optional("limits.body_rate", value::size(0..=1 << 30))
                .unwrap_or(default.body_rate),
            body_timeout: file
                .optional("limits.body_timeout", value::duration(SHORTEST..=DAY))
                .unwrap_or(default.body_timeout),
            send_timeout: file.optional("limits.send_timeout", timeout()).unwrap_or(default.send_timeout),
            send_memory: file
                .optional("limits.send_memory", value::size(1 << 20..=1 << 40))
                .unwrap_or(default.send_memory),
            spool_bytes,
            spool_per_app,
            spool_per_client,
        }
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn shards(value: &toml_edit::Value) -> Result<NonZeroUsize, Wrong> {
    let shards = value::integer::<usize>(1..=256)(value)?;
    Ok(NonZeroUsize::new(shards).unwrap_or(NonZeroUsize::MIN))
}

fn access_log(value: &toml_edit::Value) -> Result<AccessLog, Wrong> {
    if let Some(on) = value.as_bool() {
        let word = if on { "stderr" } else { "off" };
        let wrong = Wrong::new(format!("must be \"off\" or \"stderr\", not {on}"));
        return Err(wrong.hint(format!("write \"{word}\"")));
    }
    match value::text(value)? {
        "off" => Ok(AccessLog::Off),
        "stderr" => Ok(AccessLog::Stderr),
        other => Err(Wrong::new(format!("must be \"off\" or \"stderr\", not \"{other}\""))),
    }
}

#[cfg(test)]
mod tests;
