//! Real apps over HTTPS, from the view of their visitors.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::visit;

#[tokio::test]
async fn flask_over_http1_and_http2() -> anyhow::Result<()> {
    stack::with([Vassal::flask(&Place::of_tests()?)], async |stack| {
        for protocol in [Protocol::Plain, Protocol::Http1, Protocol::Http2] {
            let client = stack.client("flask", protocol)?;
            visit::flask_page(&client).await?;
            for visits in ["1\n", "2\n", "3\n"] {
                ensure!(
                    client.get("/cookie").await?.expect(200)?.text() == visits,
                    "{protocol}: a cookie is lost"
                );
            }
            let twice = client.get("/headers").await?.expect(200)?;
            let values: Vec<_> = twice.headers.get_all("x-twice").iter().collect();
            ensure!(values == ["one", "two"], "{protocol}: {values:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pyramid_over_http1_and_http2() -> anyhow::Result<()> {
    stack::with([Vassal::pyramid(&Place::of_tests()?)], async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("pyramid", protocol)?;
            visit::pyramid_page(&client).await?;
            let facts = client.get("/json").await?.expect(200)?.json()?;
            ensure!(facts["scheme"] == "https", "{facts}");
            ensure!(facts["host"] == client.origin().replace("https://", ""), "{facts}");
            ensure!(
                client.get("/greet/Ren%C3%A9").await?.expect(200)?.text() == "Hello, René!\n",
                "another greeting"
            );
            ensure!(
                client.get("/buy").await?.expect(409)?.text() == "Sorry: the last one was sold.\n",
                "another view"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn django_admin_over_http1_and_http2() -> anyhow::Result<()> {
    let (_folder, vassal) = django()?;
    stack::with([vassal.workers(2)], async |stack| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = stack.client("django", protocol)?;
            visit::django_page(&client).await?;
            visit::django_stranger(&client).await?;
            visit::django_csrf(&client).await?;
            visit::django_login(&client).await?;
            visit::django_session(&client).await?;
            visit::django_add_row(&client).await?;
            visit::django_style(&client, &stack.place).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn django_receives_a_form_and_a_file() -> anyhow::Result<()> {
    let (_folder, vassal) = django()?;
    stack::with([vassal], async |stack| {
        let client = stack.client("django", Protocol::Http2)?;
        let token = visit::token(&client, "/contact").await?;
        let form = format!("csrfmiddlewaretoken={token}&title=From+a+visitor&text=hello");
        visit::submit(&client, "/contact", &form).await?.expect(302)?;
        ensure!(client.get("/").await?.text().contains("Thank you, it is noted."), "the message is lost");
        upload(&client, 5_000_000).await
    })
    .await
}

async fn upload(client: &tests::client::Client, size: usize) -> anyhow::Result<()> {
    let token = visit::token(client, "/upload").await?;
    let file: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect();
    let mut form = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"csrfmiddlewaretoken\"\r\n\r\n{token}\r\n\
         --edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    form.extend(&file);
    form.extend(b"\r\n--edge--\r\n");
    let page =
        visit::send_form(client, "/upload", "multipart/form-data; boundary=edge", form).await?.expect(200)?;
    for expected in [format!("{size}</b> bytes"), tests::pattern::sha256(&file)] {
        ensure!(page.text().contains(&expected), "{expected} expected: {}", page.text());
    }
    Ok(())
}

#[tokio::test]
async fn up_prints_the_apps_urls() -> anyhow::Result<()> {
    let place = Place::of_tests()?;
    stack::with([Vassal::wsgi(&place), Vassal::wsgi(&place).named("other")], async |stack| {
        for name in ["wsgi", "other"] {
            let url = format!("https://{name}.localhost:{}/", stack.https.port());
            let printed = stack.printed();
            let line = printed.lines().find(|line| line.split_whitespace().eq([name, &url]));
            ensure!(line.is_some(), "{name} {url} expected in {printed}");
            ensure!(urls(stack, name).await?.contains(&url), "{url} expected in the status");
        }
        ensure!(stack.probe("/-/live").await?.status == 200, "not live");
        ensure!(!stack.probe("/-/metrics").await?.expect(200)?.body.is_empty(), "no metrics");
        Ok(())
    })
    .await
}

async fn urls(stack: &Stack, name: &str) -> anyhow::Result<Vec<String>> {
    Ok(stack.status().await?.app(name).map(|app| app.urls.clone()).unwrap_or_default())
}

/// Django with this test's own database.
fn django() -> anyhow::Result<(tempfile::TempDir, Vassal)> {
    let place = Place::of_tests()?;
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("db.sqlite3");
    fs::copy(place.django_database(), &database)?;
    Ok((folder, Vassal::django(&place, &database)))
}
