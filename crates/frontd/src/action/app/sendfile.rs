//! Sends a file that the app named (`X-Sendfile`, `X-Accel-Redirect`, `wsgi.file_wrapper`), directly from
//! disk and only from folders that the app's file allows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use api::runner::{File, file};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use tracing::warn;

use super::App;
use crate::action::files::{OpenError, PartError, StaticFolder};
use crate::action::reply::{self, Reply};
use crate::body::Body;
use crate::visit::Visit;

/// Characters to encode in a path because they have a meaning in a URL. Non-ASCII bytes are always encoded.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b'%');

/// Responds to a request with `file`, using the head of the app's `response`.
///
/// # Errors
///
/// Returns the reply to send if the file may not be sent or has changed meanwhile.
pub(crate) async fn send(
    app: &App,
    visit: &Visit<'_>,
    response: Response<Body>,
    file: &File,
) -> Result<Response<Body>, Reply> {
    let Some((folder, rest)) = find(app, file) else {
        warn!(
            app = app.name(),
            file = %shown(file),
            "the app named a file outside of its [sendfile] folders: not sending it"
        );
        return Err(Reply::BadResponse);
    };
    match &file.part {
        Some(part) => {
            let body = folder.part(&rest, part, &visit.client.share().files).await.map_err(|error| {
                warn!(app = app.name(), file = %shown(file), %error, "cannot send the file that the app named");
                match error {
                    PartError::Open(OpenError::TooMany) => Reply::Overloaded,
                    _ => Reply::Internal,
                }
            })?;
            let mut response = response.map(|_| Body::file(body));
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(part.length));
            Ok(response)
        }
        None => Ok(whole(folder, &rest, visit, response).await),
    }
}

/// The folder that contains a file, and the path below its prefix, percent-encoded as in a URL.
fn find<'a>(app: &'a App, file: &File) -> Option<(&'a StaticFolder, String)> {
    let mut folders = app.files().map(AsRef::as_ref);
    match file.name.as_ref()? {
        file::Name::Location(location) => {
            let location = str::from_utf8(location).ok()?;
            let path = location.split(['?', '#']).next()?;
            folders.find_map(|it: &StaticFolder| Some((it, path.strip_prefix(it.prefix())?.to_owned())))
        }
        file::Name::Path(path) => {
            let path = Path::new(OsStr::from_bytes(path));
            folders.find_map(|it| {
                let rest = path.strip_prefix(it.folder()).ok()?;
                Some((it, percent_encode(rest.as_os_str().as_bytes(), NOT_PLAIN).to_string()))
            })
        }
    }
}

/// Serves the file like a static file, and merges the app's headers.
async fn whole(
    folder: &StaticFolder,
    rest: &str,
    visit: &Visit<'_>,
    response: Response<Body>,
) -> Response<Body> {
    let Visit { client, head, .. } = visit;
    let is_read = head.method == Method::GET || head.method == Method::HEAD;
    let method = if is_read { &head.method } else { &Method::GET };
    let is_usual = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let none = HeaderMap::new();
    let conditions = if is_read && is_usual { &head.headers } else { &none };
    let sent = folder.serve(method, rest, conditions, &client.share().files).await.map(Body::file);
    if sent.status() == StatusCode::NOT_FOUND {
        let folder = folder.folder().display();
        warn!(%folder, file = rest, "the file that the app named does not exist");
    }
    match sent.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => merged(response, sent),
        // The error page needs nothing from the app's response.
        _ => reply::complete(sent, &visit.info()),
    }
}

fn merged(response: Response<Body>, sent: Response<Body>) -> Response<Body> {
    let (mut head, _) = response.into_parts();
    let (file, body) = sent.into_parts();
    for name in [CONTENT_LENGTH, CONTENT_RANGE] {
        head.headers.remove(name);
    }
    for (name, value) in &file.headers {
        // The app's content type takes precedence over the file extension's.
        if name != CONTENT_TYPE || !head.headers.contains_key(CONTENT_TYPE) {
            head.headers.insert(name, value.clone());
        }
    }
    if matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) && head.status != file.status {
        head.status = file.status;
        // It belonged to the other status.
        head.extensions.remove::<ReasonPhrase>();
    }
    Response::from_parts(head, body)
}

fn shown(file: &File) -> String {
    match &file.name {
        Some(file::Name::Location(name) | file::Name::Path(name)) => name.escape_ascii().to_string(),
        None => String::new(),
    }
}
