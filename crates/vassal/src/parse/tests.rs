//! The result or the exact diagnostics of app files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{Callable, Conflict, DEFAULT_CONCURRENCY, EventLoop, Interface, Symlinks, UserName, conflicts};

/// A folder with an app, a virtualenv and a static folder, and room for `blog.toml`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for folder in ["blog/static", "blog/.venv/bin", "bin"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        let apps = ["blog/app.py", "blog/site.wsgi", "blog/old-site.wsgi", "blog/production.ini"];
        for file in apps.into_iter().chain(["blog/.venv/bin/python", "bin/python3.12"]) {
            fs::write(place.path(file), "").unwrap();
        }
        for program in ["blog/.venv/bin/python", "bin/python3.12"] {
            fs::set_permissions(place.path(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn parse(&self, text: &str) -> Result<Vassal, Diagnostics> {
        Vassal::parse(&self.path("blog.toml"), text)
    }

    /// The diagnostics of a file, with `ROOT` for the folder, and without the help from the schema.
    fn message(&self, text: &str) -> String {
        let message = self.parse(text).err().map(|it| it.to_string()).unwrap_or_default();
        let message: Vec<_> = message.lines().filter_map(|it| it.split(": it sets ").next()).collect();
        message.join("\n").replace(self.0.path().to_str().unwrap(), "ROOT")
    }
}

/// The required keys, in three lines.
const MINIMAL: &str = "domains = ['blog.example']\napp = 'blog.wsgi'\ndirectory = 'blog'\n";

fn message(expected: &[&str]) -> String {
    expected.iter().map(|line| format!("ROOT/blog.toml:{line}")).collect::<Vec<_>>().join("\n")
}

/// Checks the diagnostics of the whole file `text`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(Place::new().message(text), message(expected));
}

/// Checks the diagnostics of `text` below the three lines of required keys.
#[track_caller]
fn check_rest(text: &str, expected: &[&str]) {
    check(&format!("{MINIMAL}{text}"), expected);
}

/// Checks the diagnostics of a value of `key` in the minimal file.
#[track_caller]
fn check_value(key: &str, value: &str, expected: &[&str]) {
    let line =
        |line: &str| if line.starts_with(key) { format!("{key} = {value}\n") } else { format!("{line}\n") };
    check(&MINIMAL.lines().map(line).collect::<String>(), expected);
}

#[test]
fn the_minimal_file() {
    let place = Place::new();
    let expected = Vassal {
        name: VassalName::parse("blog").unwrap(),
        file: place.path("blog.toml"),
        domains: vec![Domain::parse("blog.example").unwrap()],
        path: MountPath::default(),
        app: App { target: Target::Module("blog.wsgi".into()), callable: Callable::Usual },
        app_chosen_by: ChosenBy::Operator,
        directory: place.path("blog"),
        python: Python::Default,
        workers: 2,
        interface: Interface::Auto,
        threads: 1,
        concurrency: None,
        event_loop: EventLoop::Auto,
        sticky: Sticky::Off,
        preload: Preload::Off,
        health: None,
        recycle: Recycle { requests: None, lifetime: None, memory: None, jitter: 10 },
        reload: Reload { watch: false },
        confinement: Confinement::default(),
        env_file: None,
        env: BTreeMap::new(),
        static_folders: BTreeMap::new(),
        sendfile_folders: BTreeMap::new(),
        timeouts: Timeouts {
            start: Duration::from_secs(60),
            request: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
            stop: Duration::from_secs(30),
            websocket_drain: Duration::from_secs(3600),
        },
        queue: Queue { size: 1000, timeout: Duration::from_secs(30) },
        limits: Limits { body: 1_000_000_000, message: 16 << 20 },
    };
    assert_eq!(place.parse(MINIMAL).unwrap(), expected);
}

#[test]
fn every_key() {
    let place = Place::new();
    let text = r#"
        domains = ["Blog.Example.", "*.blog.example", "[::1]", "::1", "0:0::1", "2001:DB8::1", "127.0.0.1", "*", "blog.example"]
        path = "/blog/"
        app = "app.py:create.app"
        directory = "./blog/"
        python = "blog/.venv"
        workers = 4
        threads = 8
        preload = true
        health = "/blog/up"
        sticky = "cookie"
        user = "blog"
        recycle = { requests = 1000, lifetime = "1h", memory = "300 MB", jitter = "20%" }
        reload = { watch = true }
        [env]
        DEBUG = ""
        _x1 = "ü"
        [static]
        "/blog/static/" = "blog/static"
        [sendfile]
        "/protected/" = "blog/static"
        [timeouts]
        start = "2m"
        request = 0
        idle = "10m"
        stop = "0s"
        websocket_drain = "10m"
        [queue]
        size = 0
        timeout = "1s"
        [limits]
        body = "300 MB"
        message = "1 MiB"
        memory = "1 GB"
        cpu = "150%"
    "#;
    let vassal = place.parse(text).unwrap();
    let domains: Vec<_> = vassal.domains.iter().map(Domain::as_str).collect();
    assert_eq!(domains, ["blog.example", "*.blog.example", "[::1]", "[2001:db8::1]", "127.0.0.1", "*"]);
    assert_eq!((vassal.path.as_str(), vassal.app.to_string().as_str()), ("/blog", "app.py:create.app"));
    assert_eq!(vassal.directory, place.path("blog"));
    assert_eq!(vassal.python, Python::Virtualenv(place.path("blog/.venv")));
    assert_eq!((vassal.workers, vassal.threads, vassal.preload), (4, 8, Preload::On));
    assert_eq!(vassal.health.as_ref().map(HealthPath::as_str), Some("/blog/up"));
    let lifetime = Some(Duration::from_secs(3600));
    let recycle = Recycle { requests: Some(1000), lifetime, memory: Some(300_000_000), jitter: 20 };
    assert_eq!(vassal.recycle, recycle);
    assert!(vassal.reload.watch);
    assert_eq!(
        vassal.env.iter().collect::<Vec<_>>(),
        [(&"DEBUG".into(), &"".into()), (&"_x1".into(), &"ü".into())]
    );
    let folders: Vec<_> =
        vassal.static_folders.iter().map(|(prefix, it)| (prefix.as_str(), &it.path)).collect();
    assert_eq!(folders, [("/blog/static/", &place.path("blog/static"))]);
    let folders: Vec<_> =
        vassal.sendfile_folders.iter().map(|(prefix, folder)| (prefix.as_str(), folder)).collect();
    assert_eq!(folders, [("/protected/", &place.path("blog/static"))]);
    let (start, idle) = (Duration::from_secs(120), Some(Duration::from_secs(600)));
    let websocket_drain = Duration::from_secs(600);
    let timeouts = Timeouts { start, request: None, idle, stop: Duration::ZERO, websocket_drain };
    assert_eq!(vassal.timeouts, timeouts);
    assert_eq!(vassal.queue, Queue { size: 0, timeout: Duration::from_secs(1) });
    assert_eq!(vassal.limits, Limits { body: 300_000_000, message: 1 << 20 });
    assert_eq!(vassal.sticky, Sticky::Cookie);
    let user = Some(UserName::parse("blog").unwrap());
    assert_eq!(
        vassal.confinement,
        Confinement { user, owner: None, memory: Some(1_000_000_000), cpu: Some(150) }
    );
}

#[test]
fn keys() {
    check(
        "",
        &[
            "1:1: `domains` is missing: write domains = [\"blog.example\"]",
            "1:1: `directory` is missing: write directory = \"/srv/blog\"",
            "1:1: `app` is missing: write app = \"module:callable\"",
        ],
    );
    check_rest("wokers = 3", &["4:1: unknown key `wokers`: did you mean `workers`?"]);
    check_rest("[timeout]\nstart = 3", &["4:2: unknown key `timeout`: did you mean `timeouts`?"]);
    check_rest("body = 3", &["4:1: unknown key `body`: it belongs in `[limits]`"]);
    check_rest(
        "[static]\nworkers = 3",
        &["5:1: `static.workers` must begin with `/`: move it to the top of the file, above the first `[`"],
    );
}

#[test]
fn domains() {
    let check = |value: &str, expected: &str| check_value("domains", value, &[expected]);
    let must = "`domains` must be host names, but";
    check(
        "['https://a.example/x']",
        &format!("1:12: {must} `https://a.example/x` has a scheme: write \"a.example\""),
    );
    check(
        "['a', 'b:80']",
        &format!("1:17: {must} `b:80` has a port: write \"b\": ports are set in frontd.toml"),
    );
    check("['b/x/y']", &format!("1:12: {must} `b/x/y` has a path: write \"b\", and path = \"/x/y\""));
    let punycode = "write it in punycode, such as \"xn--bcher-kva.example\"";
    check("['bücher.example']", &format!("1:12: {must} `bücher.example` is not ASCII: {punycode}"));
    let star = "write \"*.\" before a whole name, or \"*\" alone for any host";
    for name in ["a.*", "**", "*a", "*.*"] {
        check(&format!("['{name}']"), &format!("1:12: {must} `{name}` has a `*` in the wrong place: {star}"));
    }
    let labels = "labels have 1 to 63 letters, digits and `-`, with a dot between them";
    for name in ["a..b", "-a", "a-.b", "a b", ".", &"x".repeat(64)] {
        check(&format!("['{name}']"), &format!("1:12: {must} `{name}` isn't one: {labels}"));
    }
    for name in ["[::g]", "::g", "[::1"] {
        let address = "isn't an IPv6 address: write for example \"[2001:db8::1]\"";
        check(&format!("['{name}']"), &format!("1:12: {must} `{name}` {address}"));
    }
    let port = "has a port: write \"[::1]\": ports are set in frontd.toml";
    check("['[::1]:80']", &format!("1:12: {must} `[::1]:80` {port}"));
    check(
        "['']",
        &format!("1:12: {must} `` is empty: write for example \"blog.example\", or \"*\" for any host"),
    );
    check("[]", "1:11: `domains` must have at least one element: write domains = [\"blog.example\"]");
    check("[3]", "1:12: `domains` must be a string, not an integer: write \"3\"");
}

#[test]
fn apps() {
    let good = [
        "blog.wsgi:application",
        "app",
        "app:a.b",
        "app.py",
        "./app.py:app",
        "größe:app",
        "app:create()",
        "app:create(\"prod\", url=\"redis://cache:6379\")",
        "app.py:create(debug=False)",
        "site.wsgi:application",
        "old-site.wsgi",
        "production.ini",
        "production.ini:admin",
    ];
    good.iter().for_each(|app| check_value("app", &format!("'{app}'"), &[]));

    let check = |app: &str, expected: &str| {
        check_value("app", &format!("'{app}'"), &[&format!("2:7: `app` {expected}")]);
    };
    let such_as = "write for example \"blog.wsgi:application\" or \"app.py:app\"";
    check("", &format!("must name a Python module, but \"\" isn't a valid name: {such_as}"));
    check(":app", &format!("must name a Python module, but \"\" isn't a valid name: {such_as}"));
    check("my-app:app", &format!("must name a Python module, but \"my-app\" isn't a valid name: {such_as}"));
    check("1a:app", &format!("must name a Python module, but \"1a\" isn't a valid name: {such_as}"));
    check("a..b:app", &format!("must name a Python module, but \"a..b\" isn't a valid name: {such_as}"));
    check(
        "blog/wsgi:app",
        &format!(
            "must name a module or a file that ends in `.py`, `.wsgi` or `.ini`, not \"blog/wsgi\": {such_as}"
        ),
    );
    let only = "write for example \"b('prod', debug=False)\", or pass what it needs in [env]";
    check(
        "a:b(os.environ[\"X\"])",
        &format!(
            "must call `b` with literals only, but a literal is missing (a string, a number, True, False, None, \
             a list, a tuple or a dictionary) at `os.environ[\"X\"]`: {only}"
        ),
    );
    check(
        "a:b(\"x)",
        &format!("must call `b` with literals only, but a string isn't closed at `\"x`: {only}"),
    );
    check(
        "production.ini:main()",
        "calls `main` of the Paste file production.ini, which has no functions: write \"production.ini\", \
         or \"production.ini:NAME\" for its [app:NAME]",
    );
    check(
        "a:",
        "must name a callable after the `:`, but \"\" isn't a valid name: write for example \"blog.wsgi:application\"",
    );
    check(
        "nono.py",
        "names the file ROOT/blog/nono.py, which does not exist: write its path relative to `directory`, or for example \"blog.wsgi:application\"",
    );
}

#[test]
fn a_wsgi_file_is_distinguished_from_a_module() {
    let place = Place::new();
    let app = |text: &str| {
        let text = format!("domains = ['a']\ndirectory = 'blog'\napp = '{text}'");
        place.parse(&text).unwrap().app
    };
    let file = App { target: Target::File("./site.wsgi".into()), callable: Callable::Name("site".into()) };
    assert_eq!(app("site.wsgi:site"), file);
    assert_eq!(app("./site.wsgi:site"), file);
    assert_eq!(app("blog.wsgi:site").target, Target::Module("blog.wsgi".into()));
    fs::create_dir(place.path("blog/site")).unwrap();
    fs::write(place.path("blog/site/wsgi.py"), "").unwrap();
    assert_eq!(app("site.wsgi:site").target, Target::Module("site.wsgi".into()));
}

#[test]
fn calls_are_displayed_in_the_form_that_the_worker_gets() {
    for (text, expected) in [
        ("shop:create( 'prod', debug=False )", "shop:create('prod', debug=False)"),
        ("shop:create()", "shop:create()"),
        ("shop.py:make(url='a:b(c)')", "shop.py:make(url='a:b(c)')"),
    ] {
        assert_eq!(App::parse(text).unwrap().to_string(), expected);
    }
    let Callable::Factory { name, arguments } = App::parse("shop:a.b(1)").unwrap().callable else { panic!() };
    assert_eq!((name.as_str(), arguments.as_str()), ("a.b", "1"));
}

#[test]
fn folders_and_interpreters() {
    check_value(
        "directory",
        "'nono'",
        &[
            "3:13: `directory` must be a folder, but ROOT/nono does not exist: create the folder, or correct the path",
        ],
    );
    check_value(
        "directory",
        "'blog/app.py'",
        &[
            "3:13: `directory` must be a folder, but ROOT/blog/app.py isn't one: create the folder, or correct the path",
        ],
    );
    check_value(
        "directory",
        "''",
        &["3:13: `directory` must not be empty: write \".\" for the folder of this file"],
    );

    for good in ["blog/.venv", "blog/.venv/bin/python", "bin/python3.12"] {
        check_rest(&format!("python = '{good}'"), &[]);
    }
    let check = |path: &str, expected: &str| {
        check_rest(&format!("python = '{path}'"), &[&format!("4:10: `python` {expected}")]);
    };
    check(
        "blog",
        "must be a virtualenv, but ROOT/blog has no executable bin/python: write \"ROOT/blog/.venv\"",
    );
    check(
        "bin",
        "must be a virtualenv, but ROOT/bin has no executable bin/python: create it with `python3 -m venv ROOT/bin`",
    );
    check(
        "v",
        "must be a virtualenv or an interpreter, but ROOT/v does not exist: create a virtualenv with `python3 -m venv ROOT/v`, or leave `python` out",
    );
    check(
        "blog/app.py",
        "must be a virtualenv or an interpreter, but ROOT/blog/app.py is not executable: name a virtualenv's folder, or leave `python` out",
    );
}

#[test]
fn paths_and_static_folders() {
    let check = |path: &str, expected: &str| {
        check_rest(&format!("path = '{path}'"), &[&format!("4:8: `path` {expected}")]);
    };
    check("blog/", "must begin with `/`, not \"blog/\": write \"/blog\"");
    check("/a b", "must be a plain URL path, and has ' ' in it");
    check("/a%20b", "must be a plain URL path, and has '%' in it");
    check("/a//b", "must not have `//` in it");
    check("/a/../b", "must not have `..` in it");

    let at = |prefix: &str, rest: &str| format!("5:{rest}").replace("IT", &format!("`static.{prefix}`"));
    let check = |prefix: &str, folder: &str, rest: &str| {
        check_rest(&format!("[static]\n'{prefix}' = '{folder}'"), &[&at(prefix, rest)]);
    };
    check(
        "static",
        "blog/static",
        "1: IT must begin with `/`: write \"/static/\" for a folder, \"/static\" for a file",
    );
    check("/../", "blog/static", "1: IT must not have `..` in it");
    check("/s", "blog/static", "8: IT must end with `/`, as it is the path of a folder: write \"/s/\"");
    check(
        "/a.ico/",
        "blog/app.py",
        "13: IT must not end with `/`, as it is the path of a file: write \"/a.ico\"",
    );
    check_rest(
        "path = '/blog'\n[static]\n'/s/' = 'blog/static'",
        &["6:9: `static./s/` lies outside of the app's path `/blog`: write \"/blog/s/\""],
    );
    check_rest(
        "path = '/blog'\n[static]\n'/blogs/' = 'blog/static'",
        &["6:13: `static./blogs/` lies outside of the app's path `/blog`: write \"/blog/blogs/\""],
    );
}

#[test]
fn numbers_and_durations() {
    check_rest("workers = 0", &["4:11: `workers` must be a whole number from 1 to 1000, not 0"]);
    check_rest("threads = 257", &["4:11: `threads` must be a whole number from 1 to 256, not 257"]);
    check_rest("[queue]\nsize = -1", &["5:8: `queue.size` must be a whole number from 0 to 1000000, not -1"]);
    check_rest("timeouts = { start = '0s' }", &["4:22: `timeouts.start` must be from 1s to 1d, not \"0s\""]);
    check_rest(
        "[env]\n1X = 'a'",
        &[
            "5:1: `env.1X` isn't a valid name of an environment variable: use letters, digits and `_`, and don't start with a digit",
        ],
    );
}

#[test]
fn file_names() {
    let name = |path: &str| {
        name_of(Path::new(path)).map(|it| it.map_or_else(|it| it.to_string(), |it| it.to_string()))
    };
    assert_eq!(name("/x/my-blog.toml").as_deref(), Some("my-blog"));
    assert_eq!(
        name("Blog.toml").as_deref(),
        Some("name `Blog` contains `B`: use a-z, 0-9, `_` and `-`, and start with a letter or a digit")
    );
    for other in [
        ".#blog.toml",
        ".blog.toml",
        ".toml",
        "blog.toml~",
        "blog.toml.swp",
        "#blog.toml#",
        "blog.toml.dpkg-new",
        "blog",
        "blog.ini",
        "/",
    ] {
        assert_eq!(name(other), None, "{other}");
    }
    let message = Vassal::parse(Path::new("/v/Blog.toml"), "").unwrap_err().to_string();
    assert!(message.starts_with("/v/Blog.toml: cannot name an app: name `Blog` contains `B`"), "{message}");
    let message = Vassal::parse(Path::new("/v/blog"), "").unwrap_err().to_string();
    assert_eq!(
        message,
        "/v/blog: isn't the file of an app: its name must end in `.toml`, and not begin with a dot"
    );
    let message = Vassal::load(Path::new("/nonexistent/blog.toml")).unwrap_err().to_string();
    assert_eq!(message, "/nonexistent/blog.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn static_files_and_their_symlinks() {
    let place = Place::new();
    let parse = |rest: &str| place.parse(&format!("{MINIMAL}[static]\n{rest}")).map(|it| it.static_folders);
    let served = parse(
        "'/a/' = 'blog/static'\n'/b/' = { folder = 'blog/static', symlinks = true }\n'/c.py' = 'blog/app.py'\n\
         '/d/' = { folder = 'blog/static', symlinks = false }\n[static.'/e.py']\nfile = 'blog/app.py'\nsymlinks = true",
    );
    let served = served.unwrap();
    let served: Vec<_> = served.iter().map(|(prefix, it)| (prefix.as_str(), &it.path, it.symlinks)).collect();
    let (folder, file) = (place.path("blog/static"), place.path("blog/app.py"));
    assert_eq!(
        served,
        [
            ("/a/", &folder, Symlinks::Inside),
            ("/b/", &folder, Symlinks::Anywhere),
            ("/c.py", &file, Symlinks::Inside),
            ("/d/", &folder, Symlinks::Inside),
            ("/e.py", &file, Symlinks::Anywhere),
        ]
    );
    for (value, message) in [
        ("{}", "must have either `folder` or `file`: the keys are `folder`, `file` and `symlinks`"),
        ("{ folder = 'blog', file = 'blog/app.py' }", "must have either `folder` or `file`"),
        ("{ folder = 'blog', symlink = true }", "has an unknown key `symlink`: the keys are"),
        ("{ folder = 'blog', symlinks = 'yes' }", "must be true or false, not \"yes\""),
        ("{ folder = 'blog/app.py' }", "must name a folder, but "),
        ("{ file = 'blog' }", "must name a file, but "),
        ("7", "must be a string, not an integer"),
        ("'/dev/null'", "must be a folder or a file, but /dev/null is neither"),
    ] {
        let error = parse(&format!("'/a/' = {value}")).unwrap_err().to_string();
        assert!(error.contains(&format!("`static./a/` {message}")), "{value}: {error}");
    }
}

#[test]
fn missing_static_files_do_not_cause_an_error() {
    let place = Place::new();
    let vassal = place.parse(&format!(
        "{MINIMAL}[static]\n'/a/' = 'blog/later'\n'/b.ico' = 'b.ico'\n'/c/' = {{ folder = 'c', symlinks = true }}\n\
         '/d/' = 'blog/static'\n[sendfile]\n'/e/' = 'e'"
    ));
    let vassal = vassal.unwrap();
    let absent = || vassal.absent_files().into_iter().map(|it| it.key).collect::<Vec<_>>();
    assert_eq!(absent(), ["static./a/", "static./b.ico", "static./c/", "sendfile./e/"]);
    fs::create_dir(place.path("blog/later")).unwrap();
    assert_eq!(absent(), ["static./b.ico", "static./c/", "sendfile./e/"]);
}

#[test]
fn the_fingerprint_covers_what_a_process_depends_on() {
    let place = Place::new();
    let print = |rest: &str| place.parse(&format!("{MINIMAL}{rest}")).unwrap().process_fingerprint();
    let before = print("");
    for same in [
        "workers = 9",
        "path = '/x'",
        "[queue]\nsize = 1",
        "[timeouts]\nstart = 9",
        "[timeouts]\nwebsocket_drain = 9",
        "[limits]\nmessage = 9",
        "sticky = 'cookie'",
        "concurrency = 100",
        "loop = 'auto'",
        "interface = 'auto'",
        "[static]\n'/s/' = 'blog'",
    ] {
        assert_eq!(print(same), before, "{same}");
    }
    let changes = [
        "threads = 2",
        "interface = 'wsgi'",
        "interface = 'asgi'",
        "concurrency = 2",
        "loop = 'uvloop'",
        "loop = 'uvloop:new_event_loop'",
        "health = '/up'",
        "health = '/down'",
        "python = 'blog/.venv'",
        "[env]\nA = 'b'",
        "[env]\nAb = ''",
        "[env]\nA = ''\nb = ''",
        "[sendfile]\n'/s/' = 'blog'",
        "user = 'a'",
        "user = 'b'",
        "[limits]\nmemory = '1 GB'",
        "[limits]\ncpu = '1%'",
    ];
    let mut prints: Vec<_> = changes.iter().map(|rest| print(rest)).chain([before]).collect();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), changes.len() + 1);
    assert!(prints.iter().all(|print| print.len() == 64));
}

#[test]
fn conflicting_routes() {
    let place = Place::new();
    let write = |name: &str, domains: &str, path: &str| {
        let text = format!("app = 'a'\ndirectory = 'blog'\npath = '{path}'\ndomains = [{domains}]");
        fs::write(place.path(name), text).unwrap();
        Vassal::load(&place.path(name)).unwrap()
    };
    let first = write("a.toml", "'a.example', 'b.example'", "/");
    let other_path = write("b.toml", "'a.example'", "/b");
    let second = write("c.toml", "'x.example', 'B.example'", "/");
    assert_eq!(conflicts([&first, &other_path]), []);

    let found = conflicts([&first, &other_path, &second]);
    let expected = Conflict {
        domain: Domain::parse("b.example").unwrap(),
        path: MountPath::default(),
        file: place.path("c.toml"),
        taken_by: place.path("a.toml"),
    };
    assert_eq!(found, [expected]);
    let message = found[0].diagnostics().to_string().replace(place.0.path().to_str().unwrap(), "ROOT");
    let wrong = "`domains` has `b.example` with path `/`, which is taken by ROOT/a.toml";
    assert_eq!(message, format!("ROOT/c.toml:4:25: {wrong}: give one of the two another domain or path"));
}

#[test]
fn the_app_is_found_in_the_folder() {
    let place = Place::new();
    let vassal = place.parse("domains = ['a']\ndirectory = 'blog'\n").unwrap();
    assert_eq!((vassal.app.to_string().as_str(), vassal.app_chosen_by), ("app.py", ChosenBy::Folder));
    assert_eq!(
        place.message("domains = ['a']\ndirectory = 'bin'\n"),
        "ROOT/blog.toml:1:1: `app` is missing, and ROOT/bin contains no wsgi.py, app.py, */wsgi.py, asgi.py, main.py or \
         */asgi.py: write app = \"module:callable\""
    );
}

#[test]
fn recycling_and_health() {
    check_rest("reload.watch = 1", &["4:16: `reload.watch` must be true or false, not 1"]);
    check_rest(
        "recycle = 3",
        &["4:11: `recycle` must be a table: write [recycle], and its keys in the lines below"],
    );
    check_rest(
        "recycle = { memmory = 3 }",
        &["4:13: unknown key `memmory` in `[recycle]`: did you mean `memory`?"],
    );
    check_rest(
        "recycle = { requests = 0 }",
        &["4:24: `recycle.requests` must be a whole number from 1 to 9223372036854775807, not 0"],
    );
    check_rest(
        "recycle = { jitter = 20 }",
        &["4:22: `recycle.jitter` must be a percentage from 0% to 100%, not 20: write for example \"10%\""],
    );
    let why = "write `preload = true`, or `preload = { threads = \"allow\" }` for an app whose threads start again in \
               a forked process";
    let neither = "`preload` has a `threads` that is neither \"allow\" nor \"refuse\"";
    check_rest("preload = { threads = 'yes' }", &[&format!("4:11: {neither}: {why}")]);
    check_rest("preload = { thread = 'allow' }", &[&format!("4:11: `preload` has no key `thread`: {why}")]);
    check_rest(
        "preload = 'true'",
        &["4:11: `preload` must be true or false, not \"true\": write true without quotes"],
    );
    check_rest("health = 'up'", &["4:10: `health` must begin with `/`, not \"up\": write \"/up\""]);
    check_rest(
        "path = '/blog'\nhealth = '/up'",
        &["5:10: `health` lies outside of the app's path `/blog`: write \"/blog/up\""],
    );
}

#[test]
fn a_virtualenv_whose_interpreter_is_gone() {
    let place = Place::new();
    fs::create_dir_all(place.path("old/bin")).unwrap();
    std::os::unix::fs::symlink("python3", place.path("old/bin/python")).unwrap();
    std::os::unix::fs::symlink("/gone/bin/python3.9", place.path("old/bin/python3")).unwrap();
    assert_eq!(
        place.message(&format!("{MINIMAL}python = 'old'")),
        "ROOT/blog.toml:4:10: `python` names the virtualenv ROOT/old, whose interpreter /gone/bin/python3.9 is gone: \
         recreate it with `python3 -m venv --clear ROOT/old`, and install its packages"
    );
}

/// The commented-out values in the example are the defaults. Its folders are created below another root.
#[test]
fn the_example() {
    let place = Place::new();
    let example = include_str!("../../../../deploy/examples/blog.toml");
    let example = example.replace("/srv/", &format!("{}/", place.0.path().display()));
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(char::is_alphabetic) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let uncommented: String = example.lines().map(line).collect();
    let vassal = place.parse(&example).unwrap();
    let mut with_defaults = place.parse(&uncommented).unwrap();
    // Whether it was given matters to a WSGI app, which has none.
    assert_eq!(with_defaults.concurrency.take(), Some(DEFAULT_CONCURRENCY));
    assert_eq!(with_defaults, vassal);
    let defaults = place.parse(MINIMAL).unwrap();
    let shown = (&vassal.path, vassal.workers, vassal.threads, vassal.timeouts, vassal.queue, vassal.limits);
    let default = (
        &defaults.path,
        defaults.workers,
        defaults.threads,
        defaults.timeouts,
        defaults.queue,
        defaults.limits,
    );
    assert_eq!(shown, default);
    assert_ne!(uncommented, example);
}

#[test]
fn users_and_limits() {
    for user in ["", "a b", "a\\nUser=root", "-a", "1000", "ü", &"x".repeat(33)] {
        let message =
            format!("4:8: `user` must be the name of a user, not \"{user}\": write for example \"blog\"");
        check_rest(&format!("user = \"{user}\""), &[&message.replace("\\n", "\n")]);
    }
    check_rest("user = 'root'", &[]);
    check_rest(
        "[limits]\ncpu = 50",
        &["5:7: `limits.cpu` must be a percentage from 1% to 100000%, not 50: write for example \"10%\""],
    );
    check_rest("[limits]\nmemory = 3", &["5:10: `limits.memory` must be from 1 MB to 1024 TiB, not 3"]);
}
