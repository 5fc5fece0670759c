//! Requests against a real folder, with their statuses, headers and bodies.

mod network;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use tempfile::TempDir;

use super::*;

const LARGE: usize = 1024 * 1024 + 77;

/// A folder, with secrets next to it.
struct Fixture {
    temp: TempDir,
    site: StaticFolder,
}

fn files() -> Arc<Quota> {
    Quota::new(100)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

impl Fixture {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let root = temp.path().join("root");
        let fixture = Self { site: StaticFolder::new("/static/", &root, Symlinks::Inside), temp };
        fixture.write("a.txt", b"0123456789");
        fixture.write("page.html", b"<p>");
        fixture.write("style.css", b"p{}");
        fixture.write("app.js", b";");
        fixture.write("data.json", b"{}");
        fixture.write("logo.svg", b"<svg/>");
        fixture.write("font.woff2", b"f");
        fixture.write("photo.JPG", b"j");
        fixture.write("archive.tar.gz", b"z");
        fixture.write("noextension", b"n");
        fixture.write("a b+\u{e4}.txt", b"umlaut");
        fixture.write("%2e%2e", b"percent");
        fixture.write("empty.txt", b"");
        fixture.write("large.bin", &pattern(LARGE));
        fixture.write("docs/index.html", b"docs");
        fixture.write("docs/sub/page.html", b"sub");
        fixture.write(".env", b"secret");
        fixture.write(".git/config", b"secret");
        fixture.write("docs/.hidden", b"secret");
        fixture.write(".well-known/security.txt", b"contact");
        fs::write(fixture.temp.path().join("secret.txt"), "secret").unwrap();
        fs::create_dir(fixture.temp.path().join("outside")).unwrap();
        fs::write(fixture.temp.path().join("outside/secret.txt"), "secret").unwrap();
        fixture
    }

    fn path(&self, file: &str) -> PathBuf {
        self.temp.path().join("root").join(file)
    }

    fn write(&self, file: &str, data: &[u8]) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }

    async fn send(&self, method: Method, rest: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let response = self.site.serve(&method, rest, &map, &files()).await;
        let (head, body) = response.into_parts();
        let hint = http_body::Body::size_hint(&body).exact().unwrap();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        assert_eq!(hint, body.len() as u64, "{method} {rest}");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn get(&self, rest: &str) -> Answer {
        self.send(Method::GET, rest, &[]).await
    }

    /// Retries until the response has this body: a change is seen within a second.
    async fn wait_for_body(&self, rest: &str, body: &[u8]) {
        while self.get(rest).await.body != body {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[tokio::test]
async fn files_are_served_with_their_type() {
    let fixture = Fixture::new();
    for (rest, content_type, body) in [
        ("a.txt", "text/plain; charset=utf-8", &b"0123456789"[..]),
        ("page.html", "text/html; charset=utf-8", b"<p>"),
        ("style.css", "text/css; charset=utf-8", b"p{}"),
        ("app.js", "text/javascript; charset=utf-8", b";"),
        ("data.json", "application/json", b"{}"),
        ("logo.svg", "image/svg+xml", b"<svg/>"),
        ("font.woff2", "font/woff2", b"f"),
        ("photo.JPG", "image/jpeg", b"j"),
        ("archive.tar.gz", "application/gzip", b"z"),
        ("noextension", "application/octet-stream", b"n"),
        ("a%20b+%C3%A4.txt", "text/plain; charset=utf-8", b"umlaut"),
        ("a%20b%2b\u{e4}.txt", "text/plain; charset=utf-8", b"umlaut"),
        ("%252e%252e", "application/octet-stream", b"percent"),
        ("empty.txt", "text/plain; charset=utf-8", b""),
        ("docs/", "text/html; charset=utf-8", b"docs"),
        ("docs/index.html", "text/html; charset=utf-8", b"docs"),
        ("docs/sub/page.html", "text/html; charset=utf-8", b"sub"),
        ("docs//sub///page.html", "text/html; charset=utf-8", b"sub"),
        (".well-known/security.txt", "text/plain; charset=utf-8", b"contact"),
        ("large.bin", "application/octet-stream", &pattern(LARGE)),
    ] {
        // First from disk, then from memory.
        for turn in 0..2 {
            let answer = fixture.get(rest).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, content_type), "{rest}, {turn}");
            assert!(answer.body == body, "{rest}, {turn}");
            assert_eq!(answer.header("content-length"), body.len().to_string(), "{rest}, {turn}");
            assert_eq!(answer.header("accept-ranges"), "bytes", "{rest}, {turn}");

            let head = fixture.send(Method::HEAD, rest, &[]).await;
            assert_eq!((head.status, &head.headers), (200, &answer.headers), "HEAD {rest}, {turn}");
            assert!(head.body.is_empty(), "HEAD {rest}, {turn}");
        }
    }
}

#[tokio::test]
async fn nothing_outside_or_hidden_is_served() {
    let fixture = Fixture::new();
    symlink("../secret.txt", fixture.path("link-out")).unwrap();
    symlink(fixture.temp.path().join("secret.txt"), fixture.path("absolute-out")).unwrap();
    symlink("../outside", fixture.path("folder-out")).unwrap();
    symlink("/proc/self/root", fixture.path("magic")).unwrap();
    symlink("loop", fixture.path("loop")).unwrap();
    symlink("nowhere", fixture.path("dangling")).unwrap();
    let full = format!("/{}", fixture.temp.path().join("secret.txt").display());
    for rest in [
        "../secret.txt",
        "..",
        "../",
        "%2e%2e/secret.txt",
        "%2E%2E/secret.txt",
        ".%2e/secret.txt",
        "%2e./secret.txt",
        "..%2fsecret.txt",
        "..%2Fsecret.txt",
        "%2e%2e%2fsecret.txt",
        "docs/../../secret.txt",
        "docs/../a.txt",
        "docs/%2e%2e/a.txt",
        "./a.txt",
        "..\\secret.txt",
        "..%5csecret.txt",
        "docs%2findex.html",
        "a.txt%00",
        "a.txt%00.html",
        "%00",
        "%252e%252e/secret.txt",
        "%c0%ae%c0%ae/secret.txt",
        "%ff",
        &full,
        "/etc/passwd",
        "//etc/passwd",
        "link-out",
        "absolute-out",
        "absolute-in",
        "folder-out/secret.txt",
        "folder-out/",
        "magic/etc/passwd",
        "loop",
        "dangling",
        ".env",
        "%2eenv",
        ".git/config",
        "docs/.hidden",
        "missing",
        "missing/a.txt",
        "a.txt/",
        "a.txt/b",
        "docs/sub",
        "docs/sub/",
        "",
        "/",
        &"a".repeat(300),
        &"a/".repeat(3000),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = fixture.send(method.clone(), rest, &[]).await;
            assert_eq!(answer.status, 404, "{method} {rest}");
            assert!(!answer.body.windows(6).any(|part| part == b"secret"), "{method} {rest}");
        }
    }
}

#[tokio::test]
async fn symlinks_within_the_folder_are_followed() {
    let fixture = Fixture::new();
    symlink("a.txt", fixture.path("link")).unwrap();
    symlink("docs", fixture.path("manual")).unwrap();
    symlink("../a.txt", fixture.path("docs/up")).unwrap();
    symlink(fixture.path("a.txt"), fixture.path("absolute")).unwrap();
    symlink(fixture.path("docs"), fixture.path("absolute-folder")).unwrap();
    symlink("../root/docs", fixture.path("around")).unwrap();
    for (rest, body) in [
        ("link", "0123456789"),
        ("manual/sub/page.html", "sub"),
        ("docs/up", "0123456789"),
        ("absolute", "0123456789"),
        ("absolute-folder/sub/page.html", "sub"),
        ("absolute-folder/", "docs"),
        ("around/sub/page.html", "sub"),
    ] {
        // First from disk, then from memory.
        for turn in 0..2 {
            assert_eq!(fixture.get(rest).await.body, body.as_bytes(), "{rest}, {turn}");
        }
    }
    assert_eq!(fixture.get("absolute-folder").await.header("location"), "/static/absolute-folder/");
}

#[tokio::test]
async fn symlinks_that_lead_out_are_followed_if_configured() {
    let mut fixture = Fixture::new();
    symlink("../secret.txt", fixture.path("link-out")).unwrap();
    symlink(fixture.temp.path().join("outside"), fixture.path("folder-out")).unwrap();
    symlink("/proc/self/root", fixture.path("magic")).unwrap();
    symlink("/dev/null", fixture.path("device")).unwrap();
    for rest in ["link-out", "folder-out/secret.txt"] {
        assert_eq!(fixture.get(rest).await.status, 404, "{rest}");
    }
    fixture.site = StaticFolder::new("/static/", &fixture.path(""), Symlinks::Anywhere);
    for rest in ["link-out", "folder-out/secret.txt"] {
        assert_eq!(fixture.get(rest).await.body, b"secret", "{rest}");
    }
    for rest in ["magic/etc/passwd", "device", "../secret.txt", "%2e%2e/secret.txt", ".env"] {
        assert_eq!(fixture.get(rest).await.status, 404, "{rest}");
    }
}

#[test]
fn each_file_is_logged_once_up_to_a_limit() {
    let logged = LogOnce::default();
    assert!(logged.is_first("a") && !logged.is_first("a"));
    assert_eq!((0..1000).filter(|it| logged.is_first(&it.to_string())).count(), LogOnce::FILES_MAX - 1);
}

#[tokio::test]
async fn a_single_file_is_served_wherever_its_links_lead() {
    let mut fixture = Fixture::new();
    fixture.site = StaticFolder::new("/favicon.ico", &fixture.path("logo.svg"), Symlinks::Inside);
    let answer = fixture.get("").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/svg+xml"));
    assert_eq!(answer.body, b"<svg/>");
    fixture.write("logo.svg", b"<svg>2</svg>");
    fixture.wait_for_body("", b"<svg>2</svg>").await;
    // The operator configured it by name, so its links may lead anywhere, as with the path of a folder.
    fs::remove_file(fixture.path("logo.svg")).unwrap();
    symlink("../secret.txt", fixture.path("logo.svg")).unwrap();
    fixture.wait_for_body("", b"secret").await;
    fs::remove_file(fixture.path("logo.svg")).unwrap();
    fs::create_dir(fixture.path("logo.svg")).unwrap();
    while fixture.get("").await.status != 404 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_artificial_modification_time_is_no_validator() {
    let fixture = Fixture::new();
    for seconds in [0, 1] {
        let file = fs::File::options().write(true).open(fixture.path("a.txt")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        let site = StaticFolder::new("/static/", fixture.site.folder(), Symlinks::Inside);
        let mut headers = HeaderMap::new();
        headers.insert("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        headers.insert("if-range", "Thu, 01 Jan 1970 00:00:01 GMT".parse().unwrap());
        headers.insert("range", "bytes=0-1".parse().unwrap());
        let answer = site.serve(&Method::GET, "a.txt", &headers, &files()).await;
        assert_eq!(answer.status(), 200);
        for name in ["etag", "last-modified"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
    }
}

/// A deploy that unpacks or copies files may keep their size and time.
#[tokio::test]
async fn another_file_of_the_same_size_and_time_has_another_tag() {
    let fixture = Fixture::new();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let mut tags = Vec::new();
    for text in ["one", "two"] {
        fixture.write("new", text.as_bytes());
        fs::File::options().write(true).open(fixture.path("new")).unwrap().set_modified(time).unwrap();
        fs::rename(fixture.path("new"), fixture.path("a.txt")).unwrap();
        fixture.wait_for_body("a.txt", text.as_bytes()).await;
        tags.push(fixture.get("a.txt").await.header("etag").to_owned());
    }
    assert_ne!(tags[0], tags[1]);
}

#[tokio::test]
async fn a_redirect_keeps_the_query() {
    let fixture = Fixture::new();
    for (query, expected) in
        [(None, "/static/docs/"), (Some("a=%20&b"), "/static/docs/?a=%20&b"), (Some(""), "/static/docs/?")]
    {
        let mut response = fixture.site.serve(&Method::GET, "docs", &HeaderMap::new(), &files()).await;
        keep_query(&mut response, query);
        assert_eq!(response.headers()["location"], expected);
    }
}

#[tokio::test]
async fn opening_a_fifo_or_socket_does_not_block() {
    let fixture = Fixture::new();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, fixture.path("fifo"), fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.path("socket")).unwrap();
    for rest in ["fifo", "socket"] {
        assert_eq!(fixture.get(rest).await.status, 404, "{rest}");
    }
}

#[tokio::test]
async fn an_unreadable_file_is_a_403() {
    let fixture = Fixture::new();
    fs::set_permissions(fixture.path("a.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    // root may read everything.
    let expected = if fs::File::open(fixture.path("a.txt")).is_ok() { 200 } else { 403 };
    assert_eq!(fixture.get("a.txt").await.status, expected);
}

#[tokio::test]
async fn a_folder_without_trailing_slash_is_redirected_if_it_has_a_page() {
    let fixture = Fixture::new();
    let answer = fixture.get("docs").await;
    assert_eq!((answer.status, answer.header("location")), (301, "/static/docs/"));

    fixture.write("evil.example/index.html", b"");
    let site = StaticFolder::new("/", fixture.site.folder(), Symlinks::Inside);
    let answer = site.serve(&Method::GET, "/evil.example", &HeaderMap::new(), &files()).await;
    assert_eq!(answer.status(), 404, "it would redirect to another host");
    let answer = site.serve(&Method::GET, "evil.example", &HeaderMap::new(), &files()).await;
    assert_eq!(answer.headers()["location"], "/evil.example/");
}

#[tokio::test]
async fn other_methods_are_refused() {
    let fixture = Fixture::new();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        let answer = fixture.send(method.clone(), "a.txt", &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn conditionals_and_ranges() {
    let fixture = Fixture::new();
    let first = fixture.get("a.txt").await;
    let (etag, date) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    assert!(etag.starts_with('"') && etag.ends_with("-a\""), "{etag}");
    let weak = format!("W/{etag}");
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (headers, status, range, body) in [
        (&[("if-none-match", &*etag)][..], 304, "", ""),
        (&[("if-none-match", &*weak)], 304, "", ""),
        (&[("if-none-match", "\"x\"")], 200, "", "0123456789"),
        (&[("if-modified-since", &*date)], 304, "", ""),
        (&[("if-modified-since", past)], 200, "", "0123456789"),
        (&[("if-match", &*etag)], 200, "", "0123456789"),
        (&[("if-match", &*weak)], 412, "", ""),
        (&[("if-match", "\"x\"")], 412, "", ""),
        (&[("if-unmodified-since", &*date)], 200, "", "0123456789"),
        (&[("if-unmodified-since", past)], 412, "", ""),
        (&[("range", "bytes=0-3")], 206, "bytes 0-3/10", "0123"),
        (&[("range", "bytes=4-")], 206, "bytes 4-9/10", "456789"),
        (&[("range", "bytes=-2")], 206, "bytes 8-9/10", "89"),
        (&[("range", "bytes=8-99")], 206, "bytes 8-9/10", "89"),
        (&[("range", "bytes=10-")], 416, "bytes */10", ""),
        (&[("range", "bytes=-0")], 416, "bytes */10", ""),
        (&[("range", "bytes=0-1,4-5")], 200, "", "0123456789"),
        (&[("range", "lines=0-1")], 200, "", "0123456789"),
        (&[("range", "bytes=0-1"), ("if-range", &*etag)], 206, "bytes 0-1/10", "01"),
        (&[("range", "bytes=0-1"), ("if-range", &*date)], 206, "bytes 0-1/10", "01"),
        (&[("range", "bytes=0-1"), ("if-range", "\"x\"")], 200, "", "0123456789"),
        (&[("range", "bytes=0-1"), ("if-none-match", &*etag)], 304, "", ""),
    ] {
        let answer = fixture.send(Method::GET, "a.txt", headers).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, range), "{headers:?}");
        match status {
            412 | 416 => {}
            304 => {
                assert!(
                    answer.body.is_empty() && answer.headers.get("content-length").is_none(),
                    "{headers:?}"
                );
                assert_eq!((answer.header("etag"), answer.header("last-modified")), (&*etag, &*date));
            }
            _ => {
                assert_eq!(answer.body, body.as_bytes(), "{headers:?}");
                assert_eq!(answer.header("content-length"), body.len().to_string(), "{headers:?}");
                assert_eq!(answer.header("etag"), etag, "{headers:?}");
            }
        }
    }
}

#[tokio::test]
async fn ranges_of_a_file_on_disk() {
    let fixture = Fixture::new();
    let data = pattern(LARGE);
    for (range, part) in [
        ("bytes=0-0", &data[..1]),
        ("bytes=300000-900000", &data[300_000..=900_000]),
        ("bytes=-300000", &data[LARGE - 300_000..]),
        ("bytes=262144-", &data[262_144..]),
    ] {
        let answer = fixture.send(Method::GET, "large.bin", &[("range", range)]).await;
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == part, "{range}");
    }
}

#[tokio::test]
async fn a_modification_time_is_never_in_the_future() {
    let fixture = Fixture::new();
    let file = fs::File::options().write(true).open(fixture.path("a.txt")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).unwrap();
    let modified = httpdate::parse_http_date(fixture.get("a.txt").await.header("last-modified")).unwrap();
    assert!(modified <= SystemTime::now());
}

#[tokio::test]
async fn changes_on_disk_are_seen() {
    let fixture = Fixture::new();
    let before = fixture.get("a.txt").await;
    fixture.write("a.txt", b"edited");
    fixture.wait_for_body("a.txt", b"edited").await;
    assert_ne!(fixture.get("a.txt").await.headers["etag"], before.headers["etag"]);

    // Like an editor that writes a new file of the same size and renames it.
    fixture.write("new", b"rename");
    fs::rename(fixture.path("new"), fixture.path("a.txt")).unwrap();
    fixture.wait_for_body("a.txt", b"rename").await;

    fs::remove_file(fixture.path("a.txt")).unwrap();
    while fixture.get("a.txt").await.status != 404 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.write("a.txt", b"again");
    assert_eq!(fixture.get("a.txt").await.body, b"again", "a new file is seen at once");
}

#[tokio::test]
async fn a_deploy_replaces_the_folder() {
    let fixture = Fixture::new();
    let (old, new) = (fixture.temp.path().join("v1"), fixture.temp.path().join("v2"));
    for (folder, text) in [(&old, "one"), (&new, "two")] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("a.txt"), text).unwrap();
    }
    let current = fixture.temp.path().join("current");
    symlink(&old, &current).unwrap();
    let fixture =
        Fixture { site: StaticFolder::new("/static/", &current, Symlinks::Inside), temp: fixture.temp };
    fixture.wait_for_body("a.txt", b"one").await;
    let next = fixture.temp.path().join("next");
    symlink(&new, &next).unwrap();
    fs::rename(&next, &current).unwrap();
    fixture.wait_for_body("a.txt", b"two").await;
}

#[tokio::test]
async fn a_folder_created_later_is_served() {
    let fixture = Fixture::new();
    let later = fixture.temp.path().join("later");
    let site = StaticFolder::new("/static/", &later, Symlinks::Inside);
    assert_eq!(site.serve(&Method::GET, "a.txt", &HeaderMap::new(), &files()).await.status(), 404);
    fs::create_dir(&later).unwrap();
    fs::write(later.join("a.txt"), "a").unwrap();
    assert_eq!(site.serve(&Method::GET, "a.txt", &HeaderMap::new(), &files()).await.status(), 200);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_keeps_its_length() {
    let fixture = Fixture::new();
    let open = fs::File::options().append(true).open(fixture.path("large.bin")).unwrap();

    let mut body =
        fixture.site.serve(&Method::GET, "large.bin", &HeaderMap::new(), &files()).await.into_body();
    let mut sent = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    std::io::Write::write_all(&mut &open, &[0; 100_000]).unwrap();
    while let Some(frame) = body.frame().await {
        sent += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(sent, LARGE, "what was appended is not sent");

    let mut body =
        fixture.site.serve(&Method::GET, "large.bin", &HeaderMap::new(), &files()).await.into_body();
    body.frame().await.unwrap().unwrap();
    open.set_len(300_000).unwrap();
    let cut = loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert_eq!(cut.unwrap().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Two apps may have files with the same name.
#[tokio::test]
async fn folders_do_not_share_their_files() {
    let fixture = Fixture::new();
    let other = StaticFolder::new("/static/", &fixture.temp.path().join("outside"), Symlinks::Inside);
    assert_eq!(fixture.get("a.txt").await.status, 200);
    assert_eq!(other.serve(&Method::GET, "a.txt", &HeaderMap::new(), &files()).await.status(), 404);
    assert_eq!(fixture.get("secret.txt").await.status, 404);
    assert_eq!(other.serve(&Method::GET, "secret.txt", &HeaderMap::new(), &files()).await.status(), 200);
}

#[tokio::test]
async fn a_large_file_is_opened_once_for_all_requests_and_open_files_are_bounded() {
    let fixture = Fixture::new();
    fixture.write("other.bin", &pattern(LARGE));
    let files = Quota::new(1);
    let get = async |file: &str| fixture.site.serve(&Method::GET, file, &HeaderMap::new(), &files).await;
    let bodies = [get("large.bin").await, get("large.bin").await, get("large.bin").await];
    assert!(bodies.iter().all(|it| it.status() == 200));
    assert_eq!(files.used(), 1);
    assert_eq!(get("other.bin").await.status(), 503);
    assert_eq!(get("a.txt").await.status(), 200);
    for body in bodies {
        assert_eq!(body.into_body().collect().await.unwrap().to_bytes(), pattern(LARGE));
    }
    assert_eq!(files.used(), 0);
    assert_eq!(get("other.bin").await.status(), 200);
}

#[tokio::test]
async fn data_that_waits_for_a_client_counts_while_it_is_in_memory() {
    let fixture = Fixture::new();
    fixture.write("small.bin", &pattern(20_000));
    let memory = Quota::new(1 << 20);
    let body = async |name| {
        let mut body = fixture.site.serve(&Method::GET, name, &HeaderMap::new(), &files()).await.into_body();
        body.count_in(&memory);
        body
    };
    let mut small = body("small.bin").await;
    assert_eq!(memory.used(), 20_000);
    let frame = small.frame().await.unwrap().unwrap();
    drop(small);
    assert_eq!(memory.used(), 20_000);
    drop(frame);
    let mut large = body("large.bin").await;
    assert_eq!(memory.used(), 0, "nothing is read yet");
    let frame = large.frame().await.unwrap().unwrap();
    assert_eq!((frame.data_ref().unwrap().len(), memory.used()), (128 * 1024, 128 * 1024));
    drop(frame);
    assert_eq!(memory.used(), 0);
    memory.charge(1 << 19);
    let short = large.frame().await.unwrap().unwrap();
    assert_eq!(short.data_ref().unwrap().len(), 16 * 1024, "response memory is half full");
}

#[tokio::test]
async fn a_cached_file_is_served_while_no_file_can_be_opened_but_not_once_it_is_deleted() {
    let fixture = Fixture::new();
    let get = async |files: Arc<Quota>| {
        cache::expire();
        let answer = fixture.site.serve(&Method::GET, "a.txt", &HeaderMap::new(), &files).await;
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    };
    let old = (StatusCode::OK, "0123456789".into());
    assert_eq!(get(files()).await, old);
    fixture.write("a.txt", &pattern(LARGE));
    for _ in 0..2 {
        assert_eq!(get(Quota::new(0)).await, old);
    }
    assert_eq!(get(files()).await, (StatusCode::OK, pattern(LARGE).into()));
    fixture.write("a.txt", b"0123456789");
    assert_eq!(get(files()).await, old);
    fs::remove_file(fixture.path("a.txt")).unwrap();
    assert_eq!(get(Quota::new(0)).await.0, StatusCode::NOT_FOUND);
}
