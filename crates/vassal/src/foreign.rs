//! Hints for keys of uWSGI, gunicorn and nginx, for those who migrate.

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
        &["module", "callable", "wsgi", "wsgi_file", "wsgi_app", "application", "entrypoint", "file"],
        "here it is `app`, such as `app = \"blog.wsgi:application\"` or `app = \"app.py:app\"`",
    ),
    (&["paste", "ini_paste", "ini_paste_logged"], "here it is `app`, such as `app = \"production.ini\"`"),
    (
        &["virtualenv", "venv", "home", "pyhome", "pythonhome", "interpreter"],
        "here it is `python`, such as `python = \"/srv/blog/.venv\"`",
    ),
    (
        &["chdir", "chdir2", "cwd", "working_directory", "base", "root"],
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
        &["graceful_timeout", "reload_mercy", "worker_reload_mercy", "workers_kill_timeout"],
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
        &["worker_class", "gevent", "async", "threading", "worker_connections", "interface"],
        "workers are processes, and `threads` is the number of requests that each handles at the same time",
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
            ("worker_class", "`threads`"),
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
            "preload",
            "health",
            "user",
        ];
        assert!(keys.iter().all(|it| !ours.contains(it)));
    }
}
