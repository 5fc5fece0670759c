//! Files that frontd sends for an app, directly from disk, and only from allowed folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, ensure};
use http::{HeaderName, HeaderValue, Method};
use tempfile::TempDir;
use tests::client::{Answer, Client, Protocol, empty, request};
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;

const TEXT: &str = "0123456789abcdefghijklmnopqrstuvwxyz\n";
const SECRET: &str = "nobody may read this\n";
const PROTOCOLS: [Protocol; 3] = [Protocol::Plain, Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn a_file_is_sent_with_the_apps_headers() -> anyhow::Result<()> {
    site(async |stack, folder| {
        let path = folder.join("text.txt").display().to_string();
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            for name in [("X-Sendfile", &*path), ("X-Accel-Redirect", "/protected/text.txt?v=1")] {
                let answer =
                    left(&client, &[name, ("X-Own", "kept"), ("Content-Length", "9")]).await?.expect(200)?;
                ensure!(answer.text() == TEXT, "{protocol} {name:?}: {}", answer.text());
                ensure!(answer.header("content-length") == TEXT.len().to_string(), "{:?}", answer.headers);
                ensure!(answer.header("content-type") == "text/plain; charset=utf-8", "{:?}", answer.headers);
                ensure!(answer.header("x-own") == "kept", "{:?}", answer.headers);
                for hidden in ["x-sendfile", "x-accel-redirect"] {
                    ensure!(answer.headers.get(hidden).is_none(), "{protocol}: {:?}", answer.headers);
                }
                let own = left(&client, &[name, ("Content-Type", "image/x-own")]).await?.expect(200)?;
                ensure!(own.header("content-type") == "image/x-own", "{:?}", own.headers);
                let odd = left(&client, &[name, ("status", "404 Not Found")]).await?.expect(404)?;
                ensure!(odd.text() == TEXT, "{}", odd.text());
            }
            for name in ["a b.txt", "100%.txt", "ü.txt", ".hidden"] {
                let path = folder.join(name).display().to_string();
                let answer =
                    left(&client, &[("X-Sendfile", &latin1(&path))]).await?.expect(200).context(name)?;
                ensure!(answer.text() == TEXT, "{name}: {}", answer.text());
            }
            let encoded =
                left(&client, &[("X-Accel-Redirect", "/protected/a%20b.txt")]).await?.expect(200)?;
            ensure!(encoded.text() == TEXT, "{}", encoded.text());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn conditionals_and_ranges_work_as_for_static_files() -> anyhow::Result<()> {
    site(async |stack, folder| {
        let name = &[("X-Sendfile", &*folder.join("text.txt").display().to_string())];
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let etag = left(&client, name).await?.expect(200)?.header("etag").to_owned();
            ensure!(!etag.is_empty(), "no ETag");
            let same = ask(&client, Method::GET, name, &[("if-none-match", &etag)]).await?.expect(304)?;
            ensure!(same.body.is_empty() && same.header("etag") == etag, "{same:?}");
            let part = ask(&client, Method::GET, name, &[("range", "bytes=10-12")]).await?.expect(206)?;
            ensure!(part.text() == "abc", "{}", part.text());
            let total = format!("bytes 10-12/{}", TEXT.len());
            ensure!(part.header("content-range") == total, "{:?}", part.headers);
            ask(&client, Method::GET, name, &[("range", "bytes=99-")]).await?.expect(416)?;
            let head = ask(&client, Method::HEAD, name, &[]).await?.expect(200)?;
            let length = head.header("content-length");
            ensure!(head.body.is_empty() && length == TEXT.len().to_string(), "{head:?}");
            let posted = ask(&client, Method::POST, name, &[("if-none-match", &etag)]).await?.expect(200)?;
            ensure!(posted.text() == TEXT, "{}", posted.text());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_that_was_just_written_is_sent() -> anyhow::Result<()> {
    site(async |stack, folder| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let file = folder.join("report.txt");
        for number in 0..20 {
            let text = format!("report {number}\n");
            fs::write(&file, &text)?;
            let answer = left(&client, &[("X-Sendfile", &file.display().to_string())]).await?.expect(200)?;
            ensure!(answer.text() == text, "{} after {text}", answer.text());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn files_outside_of_the_folders_are_not_sent() -> anyhow::Result<()> {
    site(async |stack, folder| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let inside = |name: &str| folder.join(name).display().to_string();
        for (name, value, status) in [
            ("X-Sendfile", "/etc/passwd", 502),
            ("X-Sendfile", "text.txt", 502),
            ("X-Sendfile", "", 502),
            ("X-Sendfile", &inside("none.txt"), 404),
            ("X-Sendfile", &inside("../secret.txt"), 404),
            ("X-Sendfile", &inside("way-out"), 404),
            ("X-Sendfile", &inside("deep"), 404),
            ("X-Sendfile", &inside(""), 404),
            ("X-Accel-Redirect", "/etc/passwd", 502),
            ("X-Accel-Redirect", "/protectedtext.txt", 502),
            ("X-Accel-Redirect", "/protected/../secret.txt", 404),
            ("X-Accel-Redirect", "/protected/%2e%2e/secret.txt", 404),
            ("X-Accel-Redirect", "/protected/none.txt", 404),
        ] {
            let answer = left(&client, &[(name, value)]).await?;
            ensure!(answer.status == status, "{name}: {value}: {status} expected, not {}", answer.status);
            ensure!(!answer.text().contains(SECRET), "{name}: {value}: the secret");
        }
        stack.logged(&["outside of its [sendfile] folders", "app=wsgi", "file=/etc/passwd"]).await?;
        stack.logged(&["the file that the app named does not exist", "file=none.txt"]).await?;
        let direct = client.get("/protected/text.txt").await?.expect(404)?;
        ensure!(direct.text() == "no such callable\n", "the client got it by itself: {}", direct.text());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_a_folder_nothing_is_sent() -> anyhow::Result<()> {
    stack::with([app(&Place::of_tests()?)], async |stack| {
        let client = stack.client("wsgi", Protocol::Http1)?;
        left(&client, &[("X-Sendfile", "/etc/passwd")]).await?.expect(502)?;
        left(&client, &[("X-Accel-Redirect", "/etc/passwd")]).await?.expect(502)?;
        client.get("/hello").await?.expect(200)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrapped_file_is_sent_completely_wherever_it_is() -> anyhow::Result<()> {
    site(async |stack, folder| {
        for protocol in PROTOCOLS {
            let client = stack.client("wsgi", protocol)?;
            let large = fs::read(folder.join("large.bin"))?;
            let all = large.len();
            for (query, expected) in [
                ("".to_owned(), 0..all),
                ("&offset=1000000".to_owned(), 1_000_000..all),
                ("&offset=5&length=70000".to_owned(), 5..70_005),
                (format!("&offset={all}"), all..all),
            ] {
                let path = format!("/wrapped?path={}{query}", folder.join("large.bin").display());
                let answer = client.get(&path).await?.expect(200)?;
                ensure!(
                    answer.body == large[expected.clone()],
                    "{protocol} {query}: {} bytes",
                    answer.body.len()
                );
                // The app hasn't set it: frontd knows the file's size.
                ensure!(
                    answer.header("content-length") == expected.len().to_string(),
                    "{:?}",
                    answer.headers
                );
                let head = client.send(request(Method::HEAD, &path, empty())).await?.expect(200)?;
                ensure!(head.body.is_empty(), "{protocol}: a body after HEAD");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn other_wrapped_files_are_sent_by_the_app() -> anyhow::Result<()> {
    site(async |stack, folder| {
        let client = stack.client("wsgi", Protocol::Http2)?;
        let beside = folder.with_file_name("secret.txt");
        let full = client.get(&format!("/wrapped?path={}", beside.display())).await?.expect(200)?;
        ensure!(full.text() == SECRET && full.header("content-length").is_empty(), "{full:?}");
        let unpacked = client
            .get(&format!("/wrapped-gzip?path={}", folder.join("text.gz").display()))
            .await?
            .expect(200)?;
        ensure!(unpacked.text() == TEXT, "{:?}", unpacked.body);
        let record = stack.root().join("wrapped");
        let path = folder.join("text.txt");
        let other = format!("/wrapped-other?path={}&record={}", path.display(), record.display());
        ensure!(client.get(&other).await?.expect(200)?.text() == TEXT, "another text");
        let closed = async || Ok(fs::read_to_string(&record).ok().filter(|it| it == "closed\n"));
        tests::wait::until("the file is closed", closed).await?;
        let short = client.get(&format!("/wrapped?path={}&length=1000", path.display())).await;
        ensure!(short.is_err(), "a file that is too short was accepted as complete: {short:?}");
        stack.logged(&["bytes shorter than its Content-Length"]).await?;
        Ok(())
    })
    .await
}

/// Lets the app respond with these headers, and a body that must not be sent.
async fn left(client: &Client, head: &[(&str, &str)]) -> anyhow::Result<Answer> {
    ask(client, Method::GET, head, &[]).await
}

async fn ask(
    client: &Client,
    method: Method,
    head: &[(&str, &str)],
    asked: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let query: Vec<_> = head.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let mut request = request(method, &format!("/header?{}", query.join("&")), empty());
    for (name, value) in asked {
        request.headers_mut().insert(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
    }
    let answer = client.send(request).await?;
    ensure!(!answer.text().contains("not this"), "the app's body was sent");
    Ok(answer)
}

/// Percent-encodes a text for a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Encodes a path as PEP 3333 represents bytes in headers.
fn latin1(path: &str) -> String {
    path.bytes().map(char::from).collect()
}

fn app(place: &Place) -> Vassal {
    Vassal::wsgi(place).app("answers:application")
}

/// An app with a folder of files that frontd may send, and a secret file next to that folder.
async fn site(test: impl AsyncFnOnce(&Stack, &Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let temp = TempDir::new()?;
    let folder = temp.path().join("protected");
    fs::create_dir_all(folder.join("deep"))?;
    for name in ["text.txt", "a b.txt", "100%.txt", "ü.txt", ".hidden", "deep/index.html"] {
        fs::write(folder.join(name), TEXT)?;
    }
    let large: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(3_000_000).collect();
    fs::write(folder.join("large.bin"), large)?;
    fs::write(temp.path().join("secret.txt"), SECRET)?;
    symlink(temp.path().join("secret.txt"), folder.join("way-out"))?;
    let packed = std::process::Command::new("gzip").arg("-nkc").arg(folder.join("text.txt")).output()?;
    fs::write(folder.join("text.gz"), packed.stdout)?;
    let table = format!("[sendfile]\n\"/protected/\" = \"{}\"", folder.display());
    let vassal = app(&Place::of_tests()?).table(&table);
    stack::with([vassal], async |stack| test(stack, &folder).await).await
}
