//! frontd's file: defaults and errors.

use std::path::Path;

use super::*;
use crate::example::uncommented;

fn parse(text: &str) -> Result<FrontdConfig, Diagnostics> {
    let source = Source { path: "/r/frontd.toml".into(), text: text.to_owned() };
    FrontdConfig::parse(source, &Layout::under(Path::new("/r")).unwrap())
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let message = parse(text).unwrap_err().to_string();
    let expected: Vec<_> = expected.iter().map(|line| format!("/r/frontd.toml:{line}")).collect();
    assert_eq!(message, expected.join("\n"));
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_means_the_defaults() {
    let layout = Layout::under(Path::new("/r")).unwrap();
    let config = parse("").unwrap();
    assert_eq!(config, FrontdConfig::new(&layout));
    assert_eq!(config, FrontdConfig::load(&layout).unwrap());
    assert_eq!(config.https, [address("127.0.0.1:8443")]);
    assert_eq!(config.tls.development.as_deref(), Some(Path::new("/r/run/state/tls")));
    assert_eq!(config.spool, Path::new("/r/run/state/frontd/spool"));
    assert_eq!(config.emperord, Path::new("/r/run/emperord.sock"));

    let config = FrontdConfig::new(&Layout::system());
    assert_eq!((config.http, config.https), (vec![address("[::]:80")], vec![address("[::]:443")]));
    assert_eq!(config.tls.development, None);
    assert_eq!(config.state, Path::new("/var/lib/imperium/frontd"));
}

#[test]
fn every_key() {
    let text = r#"
        http = []
        https = ["127.0.0.1:0", "[::1]:8443"]
        admin = "127.0.0.1:9999"
        shards = 3
        drain = "5s"
        access_log = "stderr"
        state = "s"
        emperord = "/run/e.sock"
        [tls]
        certificates = "certs"
        development = "ca"
        [limits]
        connections = 7
        header = "8 KiB"
        header_timeout = "1s"
        keep_alive = "2m"
        body_rate = "2 KiB"
        body_timeout = "10m"
        send_timeout = "7s"
        send_memory = "64 MiB"
        spool = "1 GB"
        spool_per_client = "1 MB"
    "#;
    let expected = FrontdConfig {
        http: vec![],
        https: vec![address("127.0.0.1:0"), address("[::1]:8443")],
        admin: address("127.0.0.1:9999"),
        shards: NonZeroUsize::new(3).unwrap(),
        drain: Duration::from_secs(5),
        tls: Tls { certificates: Some("/r/certs".into()), development: Some("/r/ca".into()) },
        access_log: AccessLog::Stderr,
        limits: Limits {
            connections: 7,
            header_bytes: 8192,
            header_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_secs(120),
            body_rate: 2048,
            body_timeout: Duration::from_secs(600),
            send_timeout: Duration::from_secs(7),
            send_memory: 64 << 20,
            spool_bytes: 1_000_000_000,
            spool_per_app: 500_000_000,
            spool_per_client: 1_000_000,
        },
        spool: "/r/s/spool".into(),
        state: "/r/s".into(),
        emperord: "/run/e.sock".into(),
    };
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn errors() {
    let listen = "write \"[::]:80\" to listen on all interfaces, \"127.0.0.1:80\" for this machine only";
    check(
        "http = [':80']",
        &[&format!("1:9: `http` must be an IP address with a port, not \":80\": {listen}")],
    );
    for (value, word) in [("true", "stderr"), ("false", "off")] {
        let message =
            format!("1:14: `access_log` must be \"off\" or \"stderr\", not {value}: write \"{word}\"");
        check(&format!("access_log = {value}"), &[&message]);
    }
    check(
        "access_log = 'x'",
        &[
            "1:14: `access_log` must be \"off\" or \"stderr\", not \"x\": it sets where to log requests, one line each",
        ],
    );
    check(
        "shards = 0",
        &[
            "1:10: `shards` must be a whole number from 1 to 256, not 0: it sets the number of threads, each with its own accept loop",
        ],
    );
    check("header = '1 KiB'", &["1:1: unknown key `header`: it belongs in `[limits]`"]);
    check(
        "[limits]\nheader = 1",
        &[
            "2:10: `limits.header` must be from 1 KiB to 1 MiB, not 1: it sets the size of a request's line and headers",
        ],
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::under(root.path()).unwrap();
    let path = layout.frontd_toml();
    let message = || FrontdConfig::load(&layout).unwrap_err().to_string();

    std::fs::write(&path, b"a = 1\nb = '\xff'").unwrap();
    assert_eq!(message(), format!("{}: isn't valid UTF-8 in line 2: save it as UTF-8", path.display()));
    std::fs::write(&path, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(message(), format!("{}: cannot be read: it is larger than 1 MiB", path.display()));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(message(), format!("{}: cannot be read: it is not a regular file", path.display()));
}

/// The commented-out values in the example are the defaults.
#[test]
fn the_example() {
    let example = include_str!("../../../../deploy/examples/frontd.toml");
    let layout = Layout::system();
    let parse =
        |text: String| FrontdConfig::parse(Source { path: layout.frontd_toml(), text }, &layout).unwrap();
    let shown = parse(uncommented(example));
    let expected = FrontdConfig {
        tls: Tls { certificates: Some("/etc/imperium/certificates".into()), development: None },
        ..FrontdConfig::new(&layout)
    };
    assert_eq!(shown, expected);
    assert_eq!(parse(example.to_owned()).shards, available_parallelism().unwrap());
}
