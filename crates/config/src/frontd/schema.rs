//! The schema of frontd's file.

use super::{DAY, HOUR, SHORTEST};
use crate::schema::{Key, Kind, Schema, Table};

const SPOOL: Kind = Kind::Size(0, 1 << 50);
const TIMEOUT: Kind = Kind::Duration(SHORTEST, HOUR);

/// The keys of `frontd.toml`.
pub const SCHEMA: Schema = &[Table::root(ROOT), Table::new("tls", "Certificates.", TLS), LIMITS];

const ROOT: &[Key] = &[
    Key::new(
        "http",
        Kind::Addresses,
        "The addresses to listen on for plain HTTP; `[]` is none. Under systemd this key has no effect: the ports \
         are those of `frontd-http.socket`.",
    )
    .default("[\"[::]:80\"]"),
    Key::new(
        "https",
        Kind::Addresses,
        "The addresses to listen on for HTTPS; `[]` is none. Under systemd this key has no effect: the ports are \
         those of `frontd-https.socket`.",
    )
    .default("[\"[::]:443\"]"),
    Key::new(
        "admin",
        Kind::Address,
        "The address of `/-/live`, `/-/ready` and `/-/metrics`. Don't expose it to the internet. The unit `frontd@N` \
         uses `127.0.0.1:918N` instead.",
    )
    .default("\"127.0.0.1:9180\""),
    Key::new("shards", Kind::Integer(1, 256), "The number of threads, each with its own accept loop.")
        .varies("one per core")
        .example("4"),
    Key::new(
        "drain",
        Kind::Duration(std::time::Duration::ZERO, HOUR),
        "How long requests in flight may take when frontd stops. After that, they are cut.",
    )
    .default("\"30s\""),
    Key::new(
        "access_log",
        Kind::Choice(&["off", "stderr"]),
        "Where to log requests, one line each.",
    )
    .default("\"off\""),
    Key::new(
        "state",
        Kind::Path,
        "The folder of state that outlives frontd, such as the last routing table.",
    )
    .default("\"/var/lib/imperium/frontd\""),
    Key::new(
        "spool",
        Kind::Path,
        "The folder of request and response bodies that don't fit into memory.",
    )
    .default("\"/var/lib/imperium/frontd/spool\""),
    Key::new("emperord", Kind::Path, "The socket of emperord.").default("\"/run/imperium/emperord.sock\""),
];

const TLS: &[Key] = &[
    Key::new(
        "certificates",
        Kind::Path,
        "The folder of certificates with their chains: `NAME.pem` that includes the key, or with the key in \
         `NAME.key`; `NAME.crt` or `NAME.cer` with `NAME.key`; or `NAME/fullchain.pem` with `NAME/privkey.pem`. A \
         client that asks for an unknown host gets the certificate named `default`, otherwise the first one.",
    )
    .varies("`certificates` next to this file, if it exists")
    .set("\"/etc/imperium/certificates\""),
    Key::new(
        "development",
        Kind::Path,
        "The folder of a local certificate authority, which signs certificates for hosts that have none. Only for \
         development.",
    )
    .varies("none; with `--root DIR`, `DIR/run/state/tls`")
    .example("\"/var/lib/imperium/tls\""),
];

const LIMITS: Table = Table::new(
    "limits",
    "What clients may use. A size such as `\"300 MB\"` is 300 000 000 bytes, and `\"64 KiB\"` is 65 536.",
    &[
        Key::new(
            "connections",
            Kind::Integer(1, 1_000_000),
            "The number of open client connections. When only a quarter of them is left, an address that has more than \
             half of all connections gets no more. The units allow 65 536 open files (`LimitNOFILE`), and frontd keeps a \
             quarter of them for static files and the spool: for more than 48 000 connections, raise both.",
        )
        .default("10000"),
        Key::new(
            "header",
            Kind::Size(1024, 1024 * 1024),
            "The size of a request's line and headers. Beyond it, or with more than 100 header lines, the client \
             gets a 431.",
        )
        .default("\"32 KiB\""),
        Key::new(
            "header_timeout",
            TIMEOUT,
            "How long a request's line and headers may take to arrive. After that, the client gets a 408.",
        )
        .default("\"30s\""),
        Key::new("keep_alive", TIMEOUT, "How long a connection may be idle between two requests.")
            .default("\"75s\""),
        Key::new(
            "body_rate",
            Kind::Size(0, 1 << 30),
            "The lowest average rate of a request body, per second, checked from 60 s on. A slower body gets a 408. \
             A rate of 0 is no limit.",
        )
        .default("\"1 KiB\""),
        Key::new(
            "body_timeout",
            Kind::Duration(SHORTEST, DAY),
            "How long a request body may take in total. After that, the client gets a 408.",
        )
        .default("\"24h\""),
        Key::new(
            "send_timeout",
            TIMEOUT,
            "How long a client may read nothing of a response. After that, the connection is closed or the HTTP/2 \
             stream is reset.",
        )
        .default("\"60s\""),
        Key::new(
            "send_memory",
            Kind::Size(1 << 20, 1 << 40),
            "The approximate memory for responses that wait for their clients. One address may use half of it, and \
             one connection 8 MiB. Beyond that, new requests of connections that use more than 1 MiB wait, and \
             `send_timeout` is reduced to a quarter, or to a tenth for HTTP/2 streams.",
        )
        .default("\"512 MiB\""),
        Key::new(
            "spool",
            SPOOL,
            "The disk space for all request and response bodies together. A request that doesn't fit gets a 503. A \
             response that doesn't fit waits for its client.",
        )
        .default("\"16 GiB\""),
        Key::new("spool_per_app", SPOOL, "The share of the spool that one app may use.")
            .varies("half of `spool`")
            .example("\"8 GiB\""),
        Key::new(
            "spool_per_client",
            SPOOL,
            "The share of the spool that one client address may use. The addresses of one IPv6 /64 network count as \
             one.",
        )
        .varies("a quarter of `spool`")
        .example("\"4 GiB\""),
    ],
);
