//! What users do on the apps' sites, with checks of each page.

use std::fs;

use anyhow::{Context as _, ensure};
use http::{HeaderValue, Method};

use crate::client::{Answer, Client, full, request};
use crate::place::Place;

/// Checks Flask's page and its stylesheet.
///
/// # Errors
/// If a check fails, as in all functions below.
pub async fn flask_page(client: &Client) -> anyhow::Result<()> {
    page(client, "Flask on Imperium", "/static/style.css").await
}

/// Checks Pyramid's page and its stylesheet.
///
/// # Errors
/// Same as `flask_page`.
pub async fn pyramid_page(client: &Client) -> anyhow::Result<()> {
    page(client, "Pyramid on Imperium", "/static/style.css").await
}

/// Checks FastAPI's page and its stylesheet.
///
/// # Errors
/// Same as `flask_page`.
pub async fn fastapi_page(client: &Client) -> anyhow::Result<()> {
    page(client, "FastAPI on Imperium", "/static/style.css").await
}

/// Checks a stream of events.
///
/// # Errors
/// Same as `flask_page`.
pub async fn fastapi_events(client: &Client) -> anyhow::Result<()> {
    let events = client.get("/clock?events=3&pause=0.01").await?.expect(200)?;
    ensure!(events.header("content-type").starts_with("text/event-stream"), "{:?}", events.headers);
    ensure!(events.text().matches("data: ").count() == 3, "three events expected: {}", events.text());
    Ok(())
}

/// Checks Django's page and its stylesheet.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_page(client: &Client) -> anyhow::Result<()> {
    page(client, "Django on Imperium", "/static/notes/style.css").await
}

async fn page(client: &Client, title: &str, style: &str) -> anyhow::Result<()> {
    let page = client.get("/").await?.expect(200)?;
    ensure!(page.header("content-type").starts_with("text/html"), "HTML expected: {:?}", page.headers);
    ensure!(page.text().contains(&format!("<h1>{title}</h1>")), "{title} expected: {}", page.text());
    ensure!(page.text().contains(&format!("href=\"{style}\"")), "{style} expected: {}", page.text());
    css(&client.get(style).await?.expect(200)?)
}

fn css(style: &Answer) -> anyhow::Result<()> {
    ensure!(style.header("content-type").starts_with("text/css"), "CSS expected: {:?}", style.headers);
    ensure!(!style.header("etag").is_empty(), "an ETag expected of a file: {:?}", style.headers);
    Ok(())
}

/// Checks that the admin redirects anonymous users to its login page.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_stranger(client: &Client) -> anyhow::Result<()> {
    let sent_off = client.get("/admin/").await?.expect(302)?;
    ensure!(sent_off.header("location") == "/admin/login/?next=/admin/", "{:?}", sent_off.headers);
    Ok(())
}

/// Checks that a form without a CSRF token is refused.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_csrf(client: &Client) -> anyhow::Result<()> {
    let refused = submit(client, "/contact", "title=forged").await?.expect(403)?;
    ensure!(refused.text().contains("CSRF verification failed"), "{}", refused.text());
    Ok(())
}

/// Logs in. Afterwards the client has a session.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_login(client: &Client) -> anyhow::Result<()> {
    let token = token(client, "/admin/login/").await?;
    let form = format!("csrfmiddlewaretoken={token}&username=admin&password=imperium&next=/admin/");
    let welcome = submit(client, "/admin/login/", &form).await?.expect(302)?;
    ensure!(welcome.header("location") == "/admin/", "{:?}", welcome.headers);
    client.cookie("sessionid").context("a session's cookie")?;
    let index = client.get("/admin/").await?.expect(200)?;
    ensure!(index.text().contains("Site administration"), "{}", index.text());
    Ok(())
}

/// Checks a counter in the session across visits, which different processes may handle.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_session(client: &Client) -> anyhow::Result<()> {
    for visit in 1..=4 {
        let text = client.get("/visits").await?.expect(200)?.text();
        ensure!(text == format!("{visit}\n"), "visit {visit}, and the session says {text}");
    }
    Ok(())
}

/// Adds a row in the admin, and finds it in the list and on the site.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_add_row(client: &Client) -> anyhow::Result<()> {
    let title = format!("row-{:08x}", fastrand::u32(..));
    let token = token(client, "/admin/notes/note/add/").await?;
    let form = format!("csrfmiddlewaretoken={token}&title={title}&text=added&_save=Save");
    let added = submit(client, "/admin/notes/note/add/", &form).await?.expect(302)?;
    for page in [added.header("location"), "/"] {
        let text = client.get(page).await?.expect(200)?.text();
        ensure!(text.contains(&title), "{page} lacks {title}: {text}");
    }
    Ok(())
}

/// Checks the content of the admin's stylesheet, which Django doesn't serve itself.
///
/// # Errors
/// Same as `flask_page`.
pub async fn django_style(client: &Client, place: &Place) -> anyhow::Result<()> {
    let index = client.get("/admin/").await?.expect(200)?;
    ensure!(index.text().contains("href=\"/static/admin/css/base.css\""), "{}", index.text());
    let style = client.get("/static/admin/css/base.css").await?.expect(200)?;
    css(&style)?;
    ensure!(style.body == fs::read(place.django_static().join("admin/css/base.css"))?, "another style");
    Ok(())
}

/// The pid of the process that responds.
///
/// # Errors
/// Same as `flask_page`.
pub async fn pid(client: &Client) -> anyhow::Result<u32> {
    pid_after(client, 0.0).await
}

/// The pid of the process that responds, after that many seconds.
///
/// # Errors
/// Same as `flask_page`.
pub async fn pid_after(client: &Client, seconds: f64) -> anyhow::Result<u32> {
    let text = client.get(&format!("/pid?sleep={seconds}")).await?.expect(200)?.text();
    text.trim().parse().with_context(|| format!("a process id expected, not {text:?}"))
}

/// The CSRF token in a page's form. Its cookie is stored in the cookie jar.
///
/// # Errors
/// If the page has none.
pub async fn token(client: &Client, page: &str) -> anyhow::Result<String> {
    let text = client.get(page).await?.expect(200)?.text();
    let after = text.split_once("name=\"csrfmiddlewaretoken\" value=\"");
    let token = after.and_then(|(_, rest)| rest.split_once('"')).map(|(token, _)| token.to_owned());
    token.with_context(|| format!("find a token in {page}"))
}

/// Submits a form like a browser, with an `Origin` header.
///
/// # Errors
/// If no response arrives.
pub async fn submit(client: &Client, path: &str, form: &str) -> anyhow::Result<Answer> {
    send_form(client, path, "application/x-www-form-urlencoded", form.to_owned().into_bytes()).await
}

/// Like `submit`, for any form encoding.
///
/// # Errors
/// If no response arrives.
pub async fn send_form(client: &Client, path: &str, encoding: &str, form: Vec<u8>) -> anyhow::Result<Answer> {
    let mut request = request(Method::POST, path, full(form));
    request.headers_mut().insert("content-type", HeaderValue::from_str(encoding)?);
    request.headers_mut().insert("origin", HeaderValue::from_str(&client.origin())?);
    client.send(request).await
}
