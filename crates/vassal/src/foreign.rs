//! Hints for keys of uWSGI, gunicorn, uvicorn, granian, hypercorn, daphne and nginx, for those who migrate.

/// Returns the hint for another server's key. Dashes and underscores are equivalent.
pub(crate) fn translate(key: &str) -> Option<&'static str> {
    let key = key.replace('-', "_").to_ascii_lowercase();
    let (_, here) = TABLE.iter().find(|(keys, _)| keys.contains(&key.as_str()))?;
    Some(here)
}

const TABLE: &[(&[&str], &str)] = &[
    (
        &["processes", "process", "worker_processes", "num_workers", "cheaper"],
        "here it is `workers`, such as `workers = 4`",
    ),
    (
        &[
            "module",
            "callable",
            "wsgi",
            "wsgi_file",
            "wsgi_app",
            "application",
            "application_path",
            "entrypoint",
            "file",
        ],
        "here it is `app`, such as `app = \"blog.wsgi:application\"` or `app = \"app.py:app\"`",
    ),
    (&["paste", "ini_paste", "ini_paste_logged"], "here it is `app`, such as `app = \"production.ini\"`"),
    (
        &["virtualenv", "venv", "home", "pyhome", "pythonhome", "interpreter"],
        "here it is `python`, such as `python = \"/srv/blog/.venv\"`",
    ),
    (
        &["chdir", "chdir2", "cwd", "working_directory", "working_dir", "app_dir", "base", "root"],
        "here it is `directory`, such as `directory = \"/srv/blog\"`",
    ),
    (
        &["pythonpath", "python_path"],
        "`directory` is first in sys.path; write other folders as `PYTHONPATH` in `[env]`",
    ),
    (
        &[
            "bind",
            "socket",
            "http_socket",
            "https_socket",
            "http",
            "https",
            "listen_address",
            "port",
            "uds",
            "fd",
            "endpoint",
            "insecure_bind",
        ],
        "an app has no address of its own: write its hosts as `domains`; `http` and `https` in frontd.toml say where frontd listens",
    ),
    (
        &["server_name", "servername", "serveralias", "host", "hosts", "hostname", "hostnames", "domain"],
        "here it is `domains`, such as `domains = [\"blog.example\"]`",
    ),
    (
        &[
            "timeout",
            "harakiri",
            "http_timeout",
            "request_timeout",
            "proxy_read_timeout",
            "uwsgi_read_timeout",
        ],
        "here it is `request` in `[timeouts]`, such as `request = \"30s\"`",
    ),
    (
        &[
            "graceful_timeout",
            "timeout_graceful_shutdown",
            "application_close_timeout",
            "shutdown_timeout",
            "reload_mercy",
            "worker_reload_mercy",
            "workers_kill_timeout",
        ],
        "here it is `stop` in `[timeouts]`, such as `stop = \"30s\"`",
    ),
    (
        &["max_requests", "limit_max_requests"],
        "here it is `requests` in `[recycle]`, such as `requests = 10_000`",
    ),
    (
        &["max_requests_jitter", "max_requests_delta"],
        "here it is `jitter` in `[recycle]`, such as `jitter = \"10%\"`",
    ),
    (
        &["max_worker_lifetime", "workers_lifetime"],
        "here it is `lifetime` in `[recycle]`, such as `lifetime = \"1d\"`",
    ),
    (
        &["reload_on_rss", "reload_on_as", "evil_reload_on_rss", "workers_max_rss"],
        "here it is `memory` in `[recycle]`, such as `memory = \"300 MB\"`",
    ),
    (&["limit_as"], "here it is `memory` in `[limits]`, such as `memory = \"1 GB\"`"),
    (
        &["limit_post", "client_max_body_size", "limit_request_body"],
        "here it is `body` in `[limits]`, such as `body = \"100 MB\"`",
    ),
    (&["backlog", "listen"], "here it is `size` in `[queue]`, such as `size = 1000`"),
    (
        &["worker_class", "gevent", "async", "threading"],
        "leave it out: workers are processes, and whether the app is WSGI or ASGI is detected (`interface`); `threads` is the \
         number of requests that each process of a WSGI app handles at the same time, `concurrency` that of an ASGI app",
    ),
    (
        &["worker_connections", "limit_concurrency", "backpressure", "max_app_queue_size"],
        "here it is `concurrency` for an ASGI app, such as `concurrency = 100`, and `threads` for a WSGI app",
    ),
    (
        &["ws_max_size", "websocket_max_message_size", "websocket_max_size", "max_message_size"],
        "here it is `message` in `[limits]`, such as `message = \"16 MiB\"`",
    ),
    (&["factory"], "write a call: `app = \"blog.main:create_app()\"`"),
    (
        &[
            "lifespan",
            "ws",
            "websockets",
            "no_ws",
            "ws_max_queue",
            "ws_per_message_deflate",
            "ws_ping_interval",
            "ws_ping_timeout",
            "websocket_ping_interval",
            "websocket_timeout",
            "websocket_connect_timeout",
            "ping_interval",
            "ping_timeout",
        ],
        "leave it out: an app's lifespan and its WebSockets need no setting, and frontd pings clients that are silent for 20 s",
    ),
    (
        &["runtime_threads", "runtime_mode", "runtime_blocking_threads", "task_impl", "event_loop"],
        "an ASGI app runs on one thread per process; here its event loop is `loop`, such as `loop = \"uvloop\"`",
    ),
    (&["blocking_threads", "gthreads", "worker_threads"], "here it is `threads`, such as `threads = 4`"),
    (&["preload_app"], "here it is `preload`, such as `preload = true`"),
    (
        &["uid", "gid", "group", "immediate_uid", "immediate_gid"],
        "here it is `user`; the group is that of the user",
    ),
    (
        &["static_map", "check_static", "static_path", "alias"],
        "here it is a line of `[static]`, such as `\"/static/\" = \"/srv/blog/static\"`",
    ),
    (&["raw_env", "environment", "env_vars"], "here it is a line of `[env]`, such as `TZ = \"UTC\"`"),
    (
        &["mount", "script_name", "root_path", "url_prefix", "prefix"],
        "here it is `path`, such as `path = \"/blog\"`",
    ),
    (
        &[
            "access_log",
            "accesslog",
            "errorlog",
            "logto",
            "logto2",
            "log_file",
            "req_logger",
            "log_level",
            "loglevel",
        ],
        "logs go to stderr, or the journal; `access_log = \"stderr\"` in frontd.toml adds a line for each request",
    ),
    (
        &["certfile", "keyfile", "ssl_certificate", "ssl_certificate_key", "ssl_certfile", "ssl_keyfile"],
        "certificates are for all apps, in the folder of `tls.certificates` in frontd.toml",
    ),
    (
        &[
            "master",
            "vacuum",
            "die_on_term",
            "single_interpreter",
            "need_app",
            "enable_threads",
            "thunder_lock",
            "daemonize",
            "daemon",
            "pidfile",
            "lazy",
            "lazy_apps",
            "protocol",
            "plugin",
            "plugins",
        ],
        "leave it out: it isn't needed here",
    ),
    (
        &["touch_reload"],
        "leave it out: `touch` of the app's own file here, or `imperium reload`, starts new workers",
    ),
    (
        &["timeout_keep_alive", "keep_alive_timeout", "keepalive", "http_keep_alive"],
        "here it is `keep_alive` in `[limits]` of frontd.toml",
    ),
    (&["proxy_headers", "forwarded_allow_ips"], "leave it out: frontd itself speaks to the clients"),
    (&["uwsgi"], "`imperium new uwsgi.ini` translates a file of uWSGI"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_servers_name_ours() {
        for (key, ours) in [
            ("processes", "`workers`"),
            ("module", "`app`"),
            ("virtualenv", "`python`"),
            ("chdir", "`directory`"),
            ("bind", "`domains`"),
            ("timeout", "`request` in `[timeouts]`"),
            ("wsgi-file", "`app`"),
            ("callable", "`app`"),
            ("harakiri", "`request` in `[timeouts]`"),
            ("max-requests", "`requests` in `[recycle]`"),
            ("worker_class", "`concurrency` that of an ASGI app"),
            ("worker-connections", "`concurrency = 100`"),
            ("ws-max-size", "`message` in `[limits]`"),
            ("websocket_max_message_size", "`message` in `[limits]`"),
            ("lifespan", "leave it out"),
            ("ws", "leave it out"),
            ("timeout-graceful-shutdown", "`stop` in `[timeouts]`"),
            ("runtime-threads", "`loop = "),
            ("factory", "create_app()"),
            ("die-on-term", "leave it out"),
        ] {
            assert!(translate(key).unwrap().contains(ours), "{key}");
        }
        assert_eq!(translate("workers"), None);
    }

    #[test]
    fn no_key_is_named_twice_or_is_one_of_ours() {
        let mut keys: Vec<_> = TABLE.iter().flat_map(|(keys, _)| *keys).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        let ours = [
            "domains",
            "path",
            "app",
            "directory",
            "python",
            "workers",
            "threads",
            "interface",
            "concurrency",
            "loop",
            "sticky",
            "preload",
            "health",
            "user",
        ];
        assert!(keys.iter().all(|it| !ours.contains(it)));
    }
}
