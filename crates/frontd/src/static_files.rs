//! Serves the files of one folder: GET and HEAD, conditionals and ranges, and never a path outside of it.

mod body;
mod cache;
mod conditional;
mod mounts;
mod open;
mod path;
mod representation;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::runner::Part;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

pub(crate) use body::FileBody;
use cache::{Cached, FolderId};
use conditional::Decision;
pub(crate) use open::OpenError;
use open::Target;
use path::{FilePath, Names};
use representation::Representation;

use crate::disk::Disk;
use crate::log_limit::LogLimit;
use crate::quota::Quota;

/// A folder, and the URL path that it is served at.
#[derive(Debug)]
pub(crate) struct StaticFolder {
    prefix: String,
    folder: PathBuf,
    names: Names,
    id: FolderId,
    /// Of its own, as it may be on a network.
    disk: Disk,
}

/// Threads that wait for the disk of one folder, and jobs that wait for one of them.
const THREADS: usize = 4;
const WAITING: usize = 256;

/// Why a part of a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("another file has taken its place")]
    Replaced,
}

/// What a request comes to, before its preconditions are looked at.
enum Found {
    File(Arc<Representation>),
    Redirect,
}

impl StaticFolder {
    /// `prefix` begins and ends with a slash; the folder may come into being later.
    pub(crate) fn new(prefix: &str, folder: &Path) -> Self {
        Self::with(prefix, folder, Names::Public)
    }

    /// A folder that no client sees: the app says what to send of it.
    pub(crate) fn private(prefix: &str, folder: &Path) -> Self {
        Self::with(prefix, folder, Names::Any)
    }

    fn with(prefix: &str, folder: &Path, names: Names) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: prefix.to_owned(),
            folder: folder.to_owned(),
            names,
            id,
            disk: Disk::new("static", THREADS, WAITING),
        }
    }

    /// The URL path that it is served at.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where it is on disk.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Answers a request for `rest`: what follows the prefix in the URL's path, percent-encoded as it came.
    ///
    /// A change on disk is seen after a second at the latest, a new file at once. A large file is one of `files` while it
    /// is sent.
    pub(crate) async fn serve(
        &self,
        method: &Method,
        rest: &str,
        headers: &HeaderMap,
        files: &Arc<Quota>,
    ) -> Response<FileBody> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = refusal(method, StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match self.find(rest, files).await {
            Ok(Found::File(file)) => respond(method, headers, &file),
            Ok(Found::Redirect) => self.redirect(method, rest),
            Err(error) => refusal(method, self.status(rest, &error)),
        }
    }

    /// Those bytes of a file, if it is still the one that is meant.
    ///
    /// # Errors
    /// When it is not, or cannot be opened.
    pub(crate) async fn part(
        &self,
        rest: &str,
        part: &Part,
        files: &Arc<Quota>,
    ) -> Result<FileBody, PartError> {
        let path = FilePath::parse(rest, self.names).ok_or(OpenError::NotFound)?;
        let Target::File(open) = open::open(&self.folder, &path, &self.disk).await? else {
            return Err(OpenError::NotFound.into());
        };
        if !open.stamp.is_of(part.device, part.inode) {
            return Err(PartError::Replaced);
        }
        let slot = files.take_one().ok_or(OpenError::TooMany)?;
        let range = part.offset..part.offset.saturating_add(part.length);
        Ok(FileBody::disk(open.file, range, Arc::new(slot)))
    }

    async fn find(&self, rest: &str, files: &Arc<Quota>) -> Result<Found, OpenError> {
        // What an app has sent it may have written just now, in less time than a stamp can tell.
        if self.names == Names::Any {
            return Ok(Found::File(Arc::new(self.load(rest, files).await?)));
        }
        let known = match cache::get(self.id, rest) {
            Cached::Fresh(file) => return Ok(Found::File(file)),
            Cached::Stale(file) => Some(file),
            Cached::Absent => None,
        };
        let found = self.look(rest, known, files).await;
        if !matches!(found, Ok(Found::File(_))) {
            cache::remove(self.id, rest);
        }
        found
    }

    /// A file as it is now.
    async fn load(&self, rest: &str, files: &Arc<Quota>) -> Result<Representation, OpenError> {
        let path = FilePath::parse(rest, self.names).ok_or(OpenError::NotFound)?;
        match open::open(&self.folder, &path, &self.disk).await? {
            Target::File(open) => Representation::load(open, path.as_path(), files).await,
            Target::FolderWithPage => Err(OpenError::NotFound),
        }
    }

    /// Asks the disk; `known` is what was there before.
    async fn look(
        &self,
        rest: &str,
        known: Option<Arc<Representation>>,
        files: &Arc<Quota>,
    ) -> Result<Found, OpenError> {
        let path = FilePath::parse(rest, self.names).ok_or(OpenError::NotFound)?;
        let open = match open::open(&self.folder, &path, &self.disk).await? {
            Target::File(open) => open,
            Target::FolderWithPage => return Ok(Found::Redirect),
        };
        if let Some(known) = known.filter(|known| known.stamp == open.stamp) {
            return Ok(Found::File(known));
        }
        let loaded = Arc::new(Representation::load(open, path.as_path(), files).await?);
        cache::insert(self.id, rest, &loaded);
        Ok(Found::File(loaded))
    }

    /// To the same folder with a slash, so that its page's relative links hold.
    fn redirect(&self, method: &Method, rest: &str) -> Response<FileBody> {
        let location = format!("{}{rest}/", self.prefix);
        match HeaderValue::from_bytes(location.as_bytes()) {
            // `//host/` would lead to another host.
            Ok(location) if !location.as_bytes().starts_with(b"//") => {
                let mut response = refusal(method, StatusCode::MOVED_PERMANENTLY);
                response.headers_mut().insert(LOCATION, location);
                response
            }
            _ => refusal(method, StatusCode::NOT_FOUND),
        }
    }

    fn status(&self, rest: &str, error: &OpenError) -> StatusCode {
        let folder = self.folder.display();
        match error {
            OpenError::NotFound => StatusCode::NOT_FOUND,
            OpenError::Forbidden => {
                tracing::warn!(%folder, path = rest, "static file may not be read: let frontd's user read it");
                StatusCode::FORBIDDEN
            }
            OpenError::Disk(error) => {
                static LOGGED: LogLimit = LogLimit::every(30);
                if let Some(withheld) = LOGGED.pass() {
                    tracing::error!(%folder, path = rest, withheld, "static files are refused: {error}");
                }
                StatusCode::SERVICE_UNAVAILABLE
            }
            OpenError::TooMany => {
                static LOGGED: LogLimit = LogLimit::every(30);
                if let Some(withheld) = LOGGED.pass() {
                    tracing::warn!(%folder, path = rest, withheld, "static files are refused: {error}, raise LimitNOFILE");
                }
                StatusCode::SERVICE_UNAVAILABLE
            }
            OpenError::Failed(error) => {
                tracing::warn!(%folder, path = rest, %error, "static file cannot be read");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

fn respond(method: &Method, headers: &HeaderMap, file: &Arc<Representation>) -> Response<FileBody> {
    let size = file.stamp.size;
    let (status, headers, range) = match conditional::decide(method, headers, file.validators()) {
        Decision::Whole => (StatusCode::OK, file.headers().clone(), 0..size),
        Decision::Part(range) => {
            let mut headers = file.headers().clone();
            headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
            let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            headers.extend(HeaderValue::try_from(part).map(|part| (CONTENT_RANGE, part)));
            (StatusCode::PARTIAL_CONTENT, headers, range)
        }
        Decision::NotModified => (StatusCode::NOT_MODIFIED, file.validating_headers(), 0..0),
        Decision::PreconditionFailed => return refusal(method, StatusCode::PRECONDITION_FAILED),
        Decision::Unsatisfiable => {
            let mut response = refusal(method, StatusCode::RANGE_NOT_SATISFIABLE);
            let size = HeaderValue::try_from(format!("bytes */{size}"));
            response.headers_mut().extend(size.map(|size| (CONTENT_RANGE, size)));
            return response;
        }
    };
    let body = if method == Method::HEAD { FileBody::empty() } else { file.body(range) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An answer that is no file.
fn refusal(method: &Method, status: StatusCode) -> Response<FileBody> {
    let page = format!("<!doctype html>\n<title>{status}</title>\n<h1>{status}</h1>\n");
    let len = page.len();
    let body = if method == Method::HEAD { FileBody::empty() } else { FileBody::memory(page.into()) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, len.into());
    response
}
