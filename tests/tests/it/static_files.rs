//! Static files: conditional requests, ranges, and confinement to the folder.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use anyhow::ensure;
use http::{HeaderName, HeaderValue, Method};
use tests::client::{Answer, Client, Protocol, empty, request};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;
use tests::wait::until;

const TEXT: &str = "0123456789abcdefghijklmnopqrstuvwxyz\n";
const SECRET: &str = "nobody may read this\n";

#[tokio::test]
async fn get_and_head() -> anyhow::Result<()> {
    site(async |_, client| {
        for (path, kind) in [
            ("/static/text.txt", "text/plain"),
            ("/static/style.css", "text/css"),
            ("/static/deep/script.js", "javascript"),
            ("/static/picture.svg", "image/svg+xml"),
            ("/static/unknown.qqq", "application/octet-stream"),
            ("/static/with%20space.txt?v=1", "text/plain"),
            ("/static/%C3%BCml%C3%A4ut.txt", "text/plain"),
            ("/%73tatic/%74ext.txt", "text/plain"),
            ("/static/deep/../text.txt", "text/plain"),
            ("/other/%2e%2E/static/./text.txt", "text/plain"),
        ] {
            let full = client.get(path).await?.expect(200)?;
            ensure!(full.text() == TEXT, "{path}: {}", full.text());
            ensure!(full.header("content-type").contains(kind), "{path}: {:?}", full.headers);
            let head = send(client, Method::HEAD, path, &[]).await?.expect(200)?;
            ensure!(
                head.body.is_empty() && head.header("content-length") == TEXT.len().to_string(),
                "{head:?}"
            );
            for name in ["etag", "last-modified", "content-type"] {
                ensure!(
                    !head.header(name).is_empty() && head.header(name) == full.header(name),
                    "{name}: {head:?}"
                );
            }
        }
        ensure!(client.get("/static/empty").await?.expect(200)?.body.is_empty(), "more than nothing");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn other_methods_and_missing_files() -> anyhow::Result<()> {
    site(async |_, client| {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let refused = send(client, method, "/static/text.txt", &[]).await?.expect(405)?;
            ensure!(refused.header("allow").contains("GET"), "{:?}", refused.headers);
        }
        for path in
            ["/static/none.txt", "/static/deep", "/static/", "/static/text.txt/", "/static/text.txt/more"]
        {
            client.get(path).await?.expect(404)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn conditionals() -> anyhow::Result<()> {
    site(async |stack, client| {
        let file = client.get("/static/text.txt").await?.expect(200)?;
        let (tag, date) = (file.header("etag"), file.header("last-modified"));
        let some_tags = format!("\"other\", {tag}");
        for (status, headers) in [
            (304, vec![("if-none-match", tag)]),
            (304, vec![("if-none-match", "*")]),
            (304, vec![("if-none-match", some_tags.as_str())]),
            (200, vec![("if-none-match", "\"other\"")]),
            (304, vec![("if-modified-since", date)]),
            (200, vec![("if-modified-since", "Thu, 01 Jan 1998 00:00:00 GMT")]),
            (200, vec![("if-modified-since", "no date at all")]),
            // RFC 9110, 13.1.3: the date counts only without an entity tag to compare.
            (200, vec![("if-none-match", "\"other\""), ("if-modified-since", date)]),
            (412, vec![("if-match", "\"other\"")]),
            (200, vec![("if-match", "*")]),
            (412, vec![("if-unmodified-since", "Thu, 01 Jan 1998 00:00:00 GMT")]),
            (200, vec![("if-unmodified-since", date)]),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let answer = send(client, method, "/static/text.txt", &headers).await?;
                ensure!(answer.status == status, "{headers:?}: {status} expected, not {}", answer.status);
                let bodiless = answer.body.is_empty() || answer.status != 304;
                ensure!(bodiless, "{headers:?}: a 304 with a body");
                ensure!(status != 304 || answer.header("etag") == tag, "{headers:?}: {:?}", answer.headers);
            }
        }
        fs::write(stack.root().join("files/text.txt"), "changed, and longer than it was at first, too\n")?;
        until("the change shows", async || {
            let answer = send(client, Method::GET, "/static/text.txt", &[("if-none-match", tag)]).await?;
            Ok((answer.status == 200 && answer.text().starts_with("changed")).then_some(()))
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ranges() -> anyhow::Result<()> {
    site(async |_, client| {
        let file = client.get("/static/text.txt").await?.expect(200)?;
        ensure!(file.header("accept-ranges") == "bytes", "{:?}", file.headers);
        for (range, expected) in [
            ("bytes=0-4", Some((0, 4))),
            ("bytes=10-10", Some((10, 10))),
            ("bytes=30-", Some((30, 36))),
            ("bytes=-7", Some((30, 36))),
            ("bytes=-1000", Some((0, 36))),
            ("bytes=0-1000", Some((0, 36))),
            ("bytes=37-", None),
            ("bytes=-0", None),
        ] {
            let answer = send(client, Method::GET, "/static/text.txt", &[("range", range)]).await?;
            match expected {
                Some((first, last)) => {
                    ensure!(answer.status == 206, "{range}: {answer:?}");
                    ensure!(answer.text() == TEXT[first..=last], "{range}: {:?}", answer.text());
                    let header = format!("bytes {first}-{last}/{}", TEXT.len());
                    ensure!(answer.header("content-range") == header, "{range}: {:?}", answer.headers);
                }
                None => {
                    ensure!(answer.status == 416, "{range}: {answer:?}");
                    let header = format!("bytes */{}", TEXT.len());
                    ensure!(answer.header("content-range") == header, "{range}: {:?}", answer.headers);
                }
            }
        }
        for range in ["bytes=4-2", "bytes=a-b", "lines=0-4", "bytes=", "bytes=0-99999999999999999999999-"] {
            let full =
                send(client, Method::GET, "/static/text.txt", &[("range", range)]).await?.expect(200)?;
            ensure!(full.text() == TEXT, "{range}: {:?}", full.text());
        }
        let strong = file.header("etag");
        for (condition, status) in [(strong, 206), ("\"other\"", 200), ("Thu, 01 Jan 1998 00:00:00 GMT", 200)]
        {
            let headers = [("range", "bytes=0-4"), ("if-range", condition)];
            let answer = send(client, Method::GET, "/static/text.txt", &headers).await?;
            let status = if condition.starts_with("W/") { 200 } else { status };
            ensure!(
                answer.status == status,
                "If-Range: {condition}: {status} expected, not {}",
                answer.status
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn static_paths_never_leave_the_folder() -> anyhow::Result<()> {
    site(async |stack, client| {
        symlink(stack.root().join("secret"), stack.root().join("files/link"))?;
        symlink(stack.root(), stack.root().join("files/folder"))?;
        symlink("../secret", stack.root().join("files/deep/relative"))?;
        let absolute = format!("/static/{}/secret", stack.root().display());
        for path in [
            "/static/../secret",
            "/static/./../secret",
            "/static/deep/../../secret",
            "/static/%2e%2e/secret",
            "/static/%2E%2E/secret",
            "/static/.%2e/secret",
            "/static/..%2fsecret",
            "/static/..%2Fsecret",
            "/static/%2e%2e%2fsecret",
            "/static/..%5csecret",
            "/static/%252e%252e/secret",
            "/static//../secret",
            "/static/..;/secret",
            "/static/%00",
            "/static/text.txt%00",
            "/static/text.txt%00.css",
            "/static/..%00/secret",
            "/static/link",
            "/static/folder/secret",
            "/static/deep/relative",
            "/static/%2fetc/passwd",
            "/static//etc/passwd",
            "/static/%c0%ae%c0%ae/secret",
            "/static/\u{2025}/secret",
            absolute.as_str(),
        ] {
            let path = path.replace('\u{2025}', "%e2%80%a5");
            let answer = client.get(&path).await?;
            ensure!(answer.status.is_client_error(), "{path}: {answer:?}");
            ensure!(!answer.text().contains(SECRET.trim()), "{path} leads out");
        }
        client.get("/static/text.txt").await?.expect(200)?;
        Ok(())
    })
    .await
}

/// `collectstatic --link` creates links to files elsewhere: they are served if the app's file allows it.
#[tokio::test]
async fn symlinks_and_a_single_file() -> anyhow::Result<()> {
    site(async |stack, client| {
        let files = stack.root().join("files");
        symlink(files.join("text.txt"), files.join("absolute"))?;
        symlink(stack.root().join("secret"), files.join("link"))?;
        ensure!(client.get("/static/absolute").await?.expect(200)?.text() == TEXT, "an absolute link within");
        for _ in 0..3 {
            client.get("/static/link").await?.expect(404)?;
        }
        stack.logged(&["WARN frontd", "link", "leads out", "`symlinks = true`"]).await?;
        let lines = stack.log().lines().filter(|line| line.contains("leads out")).count();
        ensure!(lines == 1, "{lines} lines for one file");

        let vassal = Vassal::wsgi(&stack.place).table(&format!(
            "[static]\n\"/static/\" = {{ folder = \"{0}\", symlinks = true }}\n\"/icon.svg\" = \"{0}/picture.svg\"",
            files.display()
        ));
        stack.put(&vassal)?;
        until("the single file is served", async || {
            Ok((client.get("/icon.svg").await?.status == 200).then_some(()))
        })
        .await?;
        ensure!(client.get("/icon.svg").await?.header("content-type") == "image/svg+xml", "its type");
        ensure!(client.get("/static/link").await?.expect(200)?.text() == SECRET, "a link that leads out");
        client.get("/icon.svg/").await?.expect(404)?;
        client.get("/static/../secret").await?.expect(404).map(drop)
    })
    .await
}

#[tokio::test]
async fn a_redirect_to_a_folder_keeps_the_query() -> anyhow::Result<()> {
    site(async |stack, client| {
        fs::write(stack.root().join("files/deep/index.html"), TEXT)?;
        let answer = client.get("/static/deep?a=%20b").await?.expect(301)?;
        ensure!(answer.header("location") == "/static/deep/?a=%20b", "{:?}", answer.headers);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_large_file_arrives_completely() -> anyhow::Result<()> {
    site(async |stack, _| {
        use tests::pattern::{self, Pattern};
        let bytes: Vec<u8> = Pattern::of(20_000_000).flatten().collect();
        fs::write(stack.root().join("files/large.bin"), &bytes)?;
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("wsgi", protocol)?;
            let response = client.open(request(Method::GET, "/static/large.bin", empty())).await?;
            let read = pattern::read(response.into_body()).await?;
            ensure!(read.sha256 == pattern::sha256(&bytes), "{protocol}: {read:?}");
        }
        Ok(())
    })
    .await
}

/// The plain app with a folder of files, and a secret file next to it.
async fn site(test: impl AsyncFnOnce(&Stack, &Client) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let vassal = Vassal::wsgi(&Place::of_tests()?);
    stack::with([vassal.clone()], async |stack| {
        let files = stack.root().join("files");
        fs::create_dir_all(files.join("deep"))?;
        fs::write(stack.root().join("secret"), SECRET)?;
        fs::write(files.join("empty"), "")?;
        for name in [
            "text.txt",
            "style.css",
            "deep/script.js",
            "picture.svg",
            "unknown.qqq",
            "with space.txt",
            "ümläut.txt",
        ] {
            fs::write(files.join(name), TEXT)?;
        }
        stack.put(&vassal.folder("/static/", &files))?;
        let client = stack.client("wsgi", Protocol::Http1)?;
        until("the folder is served", async || {
            Ok((client.get("/static/text.txt").await?.status == 200).then_some(()))
        })
        .await?;
        test(stack, &client).await
    })
    .await
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let mut request = request(method, path, empty());
    for (name, value) in headers {
        request.headers_mut().insert(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
    }
    client.send(request).await
}

#[tokio::test]
async fn a_folder_that_appears_later_is_served() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let later = folder.path().join("later");
    let vassal = Vassal::wsgi(&Place::of_tests()?).folder("/later/", &later);
    stack::with([vassal], async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        client.get("/later/a.txt").await?.expect(404)?;
        let is_reported = |app: &App| app.notices.iter().any(|it| it.contains("doesn't exist yet"));
        stack.until("wsgi", "the status reports what is missing", is_reported).await?;

        fs::create_dir(&later)?;
        fs::write(later.join("a.txt"), "here")?;
        let served = async || Ok((client.get("/later/a.txt").await?.status == 200).then_some(()));
        until("it is served", served).await?;
        stack.until("wsgi", "the notice is gone", |app| !is_reported(app)).await.map(drop)
    })
    .await
}
