//! Serves static files from one folder: GET and HEAD, conditional requests and ranges, never a path outside
//! of it.

mod cache;
mod conditional;
mod mounts;
mod open;
mod path;
mod representation;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::runner::Part;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_RANGE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use parking_lot::Mutex;

use cache::{Cached, FolderId};
use conditional::Decision;
use open::Target;
pub(crate) use open::{OpenError, Symlinks};
use path::{FilePath, Names};
use representation::Representation;

use crate::body::file::FileBody;
use crate::disk::Disk;
use crate::limits::quota::Quota;
use crate::observe::log_limit::LogLimit;

/// A folder or a single file, and the URL path it is served at. The path of a folder ends with a slash.
#[derive(Debug)]
pub(crate) struct StaticFolder {
    prefix: String,
    folder: PathBuf,
    names: Names,
    symlinks: Symlinks,
    id: FolderId,
    /// One pool per folder, since the folder may be on a network file system.
    disk: Disk,
    /// Which files have been logged.
    logged: LogOnce,
}

/// Disk threads per folder, and operations that may wait for one.
const THREADS: usize = 4;
const MAX_WAITING: usize = 256;

/// Why a part of a file can't be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("it was replaced by another file")]
    Replaced,
}

/// What a path leads to, before preconditions are evaluated.
enum Found {
    File(Arc<Representation>),
    Redirect,
}

impl StaticFolder {
    /// `prefix` starts with a slash. It ends with one if it is a folder's, which need not exist yet.
    pub(crate) fn new(prefix: &str, folder: &Path, symlinks: Symlinks) -> Self {
        Self::with(prefix, folder, Names::Public, symlinks)
    }

    /// A folder that clients can't access directly: the app decides which files to send.
    pub(crate) fn private(prefix: &str, folder: &Path, symlinks: Symlinks) -> Self {
        Self::with(prefix, folder, Names::Any, symlinks)
    }

    fn with(prefix: &str, folder: &Path, names: Names, symlinks: Symlinks) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: prefix.to_owned(),
            folder: folder.to_owned(),
            names,
            symlinks,
            id,
            disk: Disk::new("static", THREADS, MAX_WAITING),
            logged: LogOnce::default(),
        }
    }

    /// The URL path that it is served at.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The path on disk.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How symlinks are followed.
    pub(crate) fn symlinks(&self) -> Symlinks {
        self.symlinks
    }

    fn is_folder(&self) -> bool {
        self.prefix.ends_with('/')
    }

    /// Responds to a request for `rest`, the percent-encoded part of the URL path after the prefix.
    ///
    /// Changes on disk are seen within a second, new files at once. A large file counts against `files` while
    /// it is sent.
    pub(crate) async fn serve(
        &self,
        method: &Method,
        rest: &str,
        headers: &HeaderMap,
        files: &Arc<Quota>,
    ) -> Response<FileBody> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match self.find(rest, files).await {
            Ok(Found::File(file)) => respond(method, headers, &file),
            Ok(Found::Redirect) => self.redirect(rest),
            Err(error) => refusal(self.status(rest, &error)),
        }
    }

    /// Returns a range of a file, if it is still the same file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file was replaced or can't be opened.
    pub(crate) async fn part(
        &self,
        rest: &str,
        part: &Part,
        files: &Arc<Quota>,
    ) -> Result<FileBody, PartError> {
        let (Target::File(open), _) = self.open(rest).await? else {
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
        // The app may have just written the file, within the resolution of its timestamps.
        if self.names == Names::Any {
            return Ok(Found::File(Arc::new(self.load(rest, files).await?)));
        }
        let known = match cache::get(self.id, rest) {
            Cached::Fresh(file) => return Ok(Found::File(file)),
            Cached::Stale(file) => Some(file),
            Cached::Absent => None,
        };
        let found = self.look_up(rest, known.clone(), files).await;
        match (&found, known) {
            (Ok(Found::File(_)), _) => {}
            // The error comes from the disk or this process and says nothing about the file.
            (Err(error @ (OpenError::Disk(_) | OpenError::TooMany)), Some(known)) => {
                static LOGGED: LogLimit = LogLimit::every(30);
                if let Some(withheld) = LOGGED.pass() {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, path = rest, withheld, "serving static files from the cache without checking for changes: {error}");
                }
                return Ok(Found::File(known));
            }
            _ => cache::remove(self.id, rest),
        }
        found
    }

    /// Loads a file in its current state, without the cache.
    async fn load(&self, rest: &str, files: &Arc<Quota>) -> Result<Representation, OpenError> {
        match self.open(rest).await? {
            (Target::File(open), path) => Representation::load(open, &path, files).await,
            (Target::FolderWithPage, _) => Err(OpenError::NotFound),
        }
    }

    /// Opens what `rest` leads to. Also returns a path for the content type.
    async fn open(&self, rest: &str) -> Result<(Target, PathBuf), OpenError> {
        if !self.is_folder() {
            return Ok((open::open_named(&self.folder, &self.disk).await?, self.folder.clone()));
        }
        let path = FilePath::parse(rest, self.names).ok_or(OpenError::NotFound)?;
        Ok((open::open(&self.folder, &path, self.symlinks, &self.disk).await?, path.as_path().to_owned()))
    }

    /// Looks at the disk. `known` is the cached state of the file.
    async fn look_up(
        &self,
        rest: &str,
        known: Option<Arc<Representation>>,
        files: &Arc<Quota>,
    ) -> Result<Found, OpenError> {
        let (open, path) = match self.open(rest).await? {
            (Target::File(open), path) => (open, path),
            (Target::FolderWithPage, _) => return Ok(Found::Redirect),
        };
        if let Some(known) = known.filter(|known| known.stamp == open.stamp) {
            return Ok(Found::File(known));
        }
        let loaded = Arc::new(Representation::load(open, &path, files).await?);
        cache::insert(self.id, rest, &loaded);
        Ok(Found::File(loaded))
    }

    /// Redirects to the same folder with a slash, so that relative links on its page work.
    fn redirect(&self, rest: &str) -> Response<FileBody> {
        let location = format!("{}{rest}/", self.prefix);
        match HeaderValue::from_bytes(location.as_bytes()) {
            // `//host/` would redirect to another host.
            Ok(location) if !location.as_bytes().starts_with(b"//") => {
                let mut response = refusal(StatusCode::MOVED_PERMANENTLY);
                response.headers_mut().insert(LOCATION, location);
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
                response
            }
            _ => refusal(StatusCode::NOT_FOUND),
        }
    }

    fn status(&self, rest: &str, error: &OpenError) -> StatusCode {
        let folder = self.folder.display();
        match error {
            OpenError::NotFound => StatusCode::NOT_FOUND,
            OpenError::LeadsOut => {
                if self.logged.is_first(rest) {
                    tracing::warn!(%folder, path = rest, "static file not served: {error}; `symlinks = true` for it in [static] allows that");
                }
                StatusCode::NOT_FOUND
            }
            OpenError::Forbidden => {
                if self.logged.is_first(rest) {
                    tracing::warn!(%folder, path = rest, "static file can't be read: allow frontd's user to read it");
                }
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
                static FAILED: LogLimit = LogLimit::new();
                if let Some(withheld) = FAILED.pass() {
                    tracing::warn!(%folder, path = rest, %error, withheld, "static file can't be read");
                }
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// Logs each file once, for a limited number of files.
#[derive(Debug, Default)]
struct LogOnce(Mutex<HashSet<Box<str>>>);

impl LogOnce {
    const FILES_MAX: usize = 100;

    fn is_first(&self, path: &str) -> bool {
        let mut logged = self.0.lock();
        logged.len() < Self::FILES_MAX && logged.insert(path.into())
    }
}

/// Appends the request's query to a redirect.
pub(crate) fn keep_query(response: &mut Response<FileBody>, query: Option<&str>) {
    if response.status() != StatusCode::MOVED_PERMANENTLY {
        return;
    }
    if let (Some(location), Some(query)) = (response.headers_mut().get_mut(LOCATION), query) {
        let whole = [location.as_bytes(), b"?", query.as_bytes()].concat();
        if let Ok(whole) = HeaderValue::try_from(whole) {
            *location = whole;
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
        Decision::PreconditionFailed => return refusal(StatusCode::PRECONDITION_FAILED),
        Decision::Unsatisfiable => {
            let mut response = refusal(StatusCode::RANGE_NOT_SATISFIABLE);
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

/// A response without a file. Its page is added by `replies`, which knows the request.
fn refusal(status: StatusCode) -> Response<FileBody> {
    let mut response = Response::new(FileBody::empty());
    *response.status_mut() = status;
    response
}
