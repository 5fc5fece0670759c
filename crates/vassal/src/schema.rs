//! The schema of an app's file.

use std::time::Duration;

use config::{Entries, Key, Kind, Schema, Table};

use crate::MAX_WORKERS;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The keys of an app's file.
pub const SCHEMA: Schema = &[
    Table::root(ROOT),
    RECYCLE,
    Table::secret(
        "env",
        "Environment variables of the processes. If the app runs as emperord's user, they are added to emperord's own \
         environment. Otherwise, the app inherits only `PATH`, `LANG`, `LANGUAGE`, `LC_*`, `TZ`, `SHELL` and `IMPERIUM_*`.",
        Entries {
            key: "name of a variable",
            pattern: "^[A-Za-z_][A-Za-z0-9_]*$",
            value: Kind::Text,
            example: &["DJANGO_SETTINGS_MODULE = \"blog.settings\""],
        },
    ),
    Table::free(
        "static",
        "Folders, by URL prefix, and single files that frontd serves directly from disk. A path that doesn't exist \
         yet is served as soon as it exists. Symlinks are followed within the folder. With `symlinks = true`, those that \
         lead out of it are followed too, such as those of `collectstatic --link`.",
        Entries {
            key: "URL prefix, with a slash at its end for a folder",
            pattern: "^/",
            value: Kind::PathOrTable(SOURCE),
            example: &[
                "\"/static/\" = \"/srv/blog/static\"",
                "# \"/favicon.ico\" = \"/srv/blog/static/favicon.ico\"",
                "# \"/media/\" = { folder = \"/srv/blog/media\", symlinks = true }",
            ],
        },
    ),
    Table::free(
        "sendfile",
        "Folders whose files frontd sends at the app's request: with `X-Accel-Redirect: /protected/…`, \
         `X-Sendfile: /srv/blog/media/…` or `wsgi.file_wrapper`. The prefix isn't a URL: clients can't request it.",
        Entries {
            key: "prefix, with a slash at its end",
            pattern: "^/",
            value: Kind::Path,
            example: &["# \"/protected/\" = \"/srv/blog/media\""],
        },
    ),
    TIMEOUTS,
    QUEUE,
    LIMITS,
    RELOAD,
];

const ROOT: &[Key] = &[
    Key::new(
        "domains",
        Kind::Texts,
        "The hosts of the app. `\"*.blog.example\"` matches exactly one label before it, and `\"*\"` any host.",
    )
    .required()
    .set("[\"blog.example\", \"www.blog.example\"]"),
    Key::new("path", Kind::Text, "The URL prefix where the app is mounted. It becomes `SCRIPT_NAME` in WSGI, and `root_path` in ASGI.").default("\"/\""),
    Key::new(
        "app",
        Kind::Text,
        "Where the app is: `\"module:callable\"`, `\"file.py:callable\"` or `\"site.wsgi:callable\"`. \
         `'module:factory(\"prod\", debug=False)'` calls a function that returns the app; its arguments are literals. \
         Without a callable, Imperium uses `application`, otherwise `app`. `\"production.ini\"` is `[app:main]` of a Paste \
         file, including its logging configuration; `\"production.ini:admin\"` is its `[app:admin]`.",
    )
    .varies("`wsgi.py` or `app.py` of `directory`, or Django's `*/wsgi.py`, otherwise `asgi.py`, `main.py` or `*/asgi.py`")
    .set("\"blog.wsgi:application\""),
    Key::new("directory", Kind::Path, "The working directory, and the first entry of `sys.path`.")
        .required()
        .set("\"/srv/blog\""),
    Key::new(
        "python",
        Kind::Path,
        "The folder of a virtualenv, or the path of an interpreter (CPython 3.10 or newer).",
    )
    .varies("`python3` of `PATH`")
    .set("\"/srv/blog/.venv\""),
    Key::new("workers", Kind::Integer(1, MAX_WORKERS as i64), "The number of processes.").default("2"),
    Key::new(
        "interface",
        Kind::Choice(&["auto", "wsgi", "asgi"]),
        "The interface of the app. With `\"auto\"`, each process finds out when it has imported the app.",
    )
    .default("\"auto\""),
    Key::new(
        "threads",
        Kind::Integer(1, 256),
        "The number of requests that each process of a WSGI app handles at the same time.",
    )
    .default("1"),
    Key::new(
        "concurrency",
        Kind::Integer(1, u16::MAX as i64),
        "The number of requests that each process of an ASGI app handles at the same time, all on one thread. It may \
         have as many open WebSockets besides.",
    )
    .default("100"),
    Key::new(
        "loop",
        Kind::Text,
        "The event loop of an ASGI app: `\"auto\"`, `\"uvloop\"`, `\"asyncio\"`, or `\"module:factory\"`, a function \
         without parameters that returns a loop. `\"auto\"` is uvloop if the app's virtualenv has it, and otherwise \
         asyncio's.",
    )
    .default("\"auto\""),
    Key::new(
        "sticky",
        Kind::Choice(&["cookie"]),
        "The way to send a client to the process that served it before, as long as that one takes requests: \
         `\"cookie\"` sets a cookie for it. Socket.IO's long polling needs this if there is more than one process. If it is omitted, \
         each request goes to the least busy process.",
    )
    .example("\"cookie\""),
    Key::new(
        "preload",
        Kind::Switch(&[Key::new(
            "threads",
            Kind::Choice(&["allow", "refuse"]),
            "What happens if threads are still running after the import.",
        )
        .default("\"refuse\"")]),
        "Whether to import the app once and fork its processes from there: see preload.md. Under systemd, this has no \
         effect, and `imperium status` says so. An app whose import leaves threads running is refused. If its threads \
         restart themselves in a forked process, set `preload = { threads = \"allow\" }`.",
    )
    .default("false"),
    Key::new(
        "env_file",
        Kind::Path,
        "A `.env` file with environment variables of the processes: see environment.md. They read it as the app's user. \
         `[env]` overrides it. When the file changes, new workers replace the old ones.",
    )
    .example("\"/srv/blog/.env\""),
    Key::new(
        "health",
        Kind::Text,
        "The path of a health check. A process gets requests only after this path has responded with a 2xx status.",
    )
    .example("\"/up\""),
    Key::new(
        "user",
        Kind::Text,
        "The user that the processes run as. If it is omitted, each part of the path of `directory` has to belong to \
         root or to the owner of `directory`, and nobody else may write to it. An app runs as root only with \
         `user = \"root\"`. An emperord that isn't root runs all apps as itself.",
    )
    .varies("the owner of `directory` when this file is read")
    .example("\"blog\""),
];

const SOURCE: &[Key] = &[
    Key::new("folder", Kind::Path, "The folder to serve."),
    Key::new("file", Kind::Path, "The file to serve, in place of a folder."),
    Key::new("symlinks", Kind::Boolean, "Whether symlinks that lead out of the folder are followed.")
        .default("false"),
];

const RECYCLE: Table = Table::new(
    "recycle",
    "When a process is replaced. Its successor is ready before it stops.",
    &[
        Key::new("requests", Kind::Integer(1, i64::MAX), "The number of requests after which a process is replaced.")
            .example("10_000"),
        Key::new("lifetime", Kind::Duration(SECOND, YEAR), "The age at which a process is replaced.")
            .example("\"1d\""),
        Key::new(
            "memory",
            Kind::Size(1_000_000, 1 << 50),
            "The private memory at which a process is replaced, which excludes memory shared with other processes. It is \
             checked from an age of 5 s, or later if new processes already use more.",
        )
        .example("\"300 MB\""),
        Key::new(
            "jitter",
            Kind::Percent(0, 100),
            "How much `requests` and `lifetime` vary from process to process, so that not all are replaced at once.",
        )
        .default("\"10%\""),
    ],
);

const TIMEOUTS: Table = Table::new(
    "timeouts",
    "Durations such as `\"500ms\"`, `\"30s\"`, `\"2m\"` or `\"1h\"`. A number without a unit is seconds.",
    &[
        Key::new(
            "start",
            Kind::Duration(SECOND, DAY),
            "How long a process may take to import the app.",
        )
        .default("\"60s\""),
        Key::new(
            "request",
            Kind::Duration(Duration::ZERO, DAY),
            "How long a request may take until its response begins. After that, the client gets a 504. 0 is no limit.",
        )
        .default("\"60s\""),
        Key::new(
            "idle",
            Kind::Duration(Duration::ZERO, DAY),
            "The longest pause in a response that has begun. After that, it is cut. 0 is no limit. An app that sends \
             events less often needs a longer limit, or should send a comment (`\":\\n\\n\"`) regularly; an empty chunk \
             doesn't count. A response whose client has disconnected is interrupted after 5 s, or after half of this \
             limit if that is shorter.",
        )
        .default("\"60s\""),
        Key::new(
            "stop",
            Kind::Duration(Duration::ZERO, DAY),
            "How long requests in flight may take when a worker is stopped or replaced.",
        )
        .default("\"30s\""),
        Key::new(
            "websocket_drain",
            Kind::Duration(Duration::ZERO, DAY),
            "How long open WebSockets may keep a process that is replaced or no longer needed. After that, they are closed \
             with the code 1012. At most twice as many old processes as `workers` are kept like this: beyond, those of the oldest \
             are closed. When the app or the machine is stopped, WebSockets are closed after a second.",
        )
        .default("\"1h\""),
    ],
);

const QUEUE: Table = Table::new(
    "queue",
    "Where requests wait while all workers are busy.",
    &[
        Key::new(
            "size",
            Kind::Integer(0, 1_000_000),
            "How many requests may wait. One that doesn't fit gets a 503.",
        )
        .default("1000"),
        Key::new(
            "timeout",
            Kind::Duration(Duration::ZERO, DAY),
            "How long a request may wait in total, including retries. After that, it gets a 503.",
        )
        .default("\"30s\""),
    ],
);

const LIMITS: Table = Table::new(
    "limits",
    "Limits of one request, and of each process. `\"300 MB\"` is 300 000 000 bytes, `\"64 KiB\"` is 65 536; a number \
     without a unit is bytes.",
    &[
        Key::new(
            "body",
            Kind::Size(0, 1 << 40),
            "The largest request body. Beyond it, the client gets a 413.",
        )
        .default("\"1 GB\""),
        Key::new(
            "message",
            Kind::Size(1, 1 << 30),
            "The largest message of a WebSocket. Beyond it, the WebSocket is closed with the code 1009.",
        )
        .default("\"16 MiB\""),
        Key::new(
            "memory",
            Kind::Size(1_000_000, 1 << 50),
            "The memory of each process. Beyond it, the kernel kills the process. Without systemd, emperord needs a \
             cgroup v2 of its own (`Delegate=yes` and `DelegateSubgroup=emperord` in its unit); otherwise it refuses the file.",
        )
        .example("\"1 GB\""),
        Key::new(
            "cpu",
            Kind::Percent(1, 100_000),
            "The processor time of each process, where `\"100%\"` is one whole processor. It has the same requirements as `memory`.",
        )
        .example("\"150%\""),
    ],
);

const RELOAD: Table = Table::new(
    "reload",
    "Automatic reloads, for development.",
    &[Key::new(
        "watch",
        Kind::Boolean,
        "Whether the app is reloaded when its Python files, templates or `.env` change. The old processes keep \
         serving until the new ones are ready. Virtualenvs, hidden folders, `node_modules`, `build`, `dist`, `static`, `media` and the \
         folders of `[static]` and `[sendfile]` aren't watched. `imperium up app.py` watches by default.",
    )
    .default("false")],
);
