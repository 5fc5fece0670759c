//! A file as it is served: its content and its headers.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};

use super::conditional::Validators;
use super::open::{OpenError, OpenFile, Stamp};
use crate::body::file::{DiskFile, FileBody, read_cached};
use crate::limits::quota::{Held, Quota};

/// Maximum size of a file that is kept in memory, in bytes.
const MEMORY_MAX: u64 = 256 * 1024;

#[derive(Debug)]
pub(super) struct Representation {
    pub(super) stamp: Stamp,
    /// All headers of a 200.
    headers: HeaderMap,
    validators: Option<Known>,
    content: Content,
    /// Its slot among the open files.
    _slot: Option<Held>,
}

/// The validators of this version of the file.
#[derive(Debug)]
struct Known {
    etag: HeaderValue,
    last_modified: HeaderValue,
    /// Seconds since 1970.
    modified: u64,
}

#[derive(Debug)]
enum Content {
    Memory(Bytes),
    Disk(Arc<DiskFile>),
}

impl Representation {
    /// Reads a small file completely. Keeps a large one open, which counts against `files`.
    pub(super) async fn load(open: OpenFile, path: &Path, files: &Arc<Quota>) -> Result<Self, OpenError> {
        let stamp = open.stamp;
        if stamp.size > MEMORY_MAX {
            let slot = files.take_one().ok_or(OpenError::TooMany)?;
            return Ok(Self::new(stamp, path, Content::Disk(open.file), Some(slot)));
        }
        let (data, stamp) = read(open).await?;
        Ok(Self::new(stamp, path, Content::Memory(data), None))
    }

    fn new(stamp: Stamp, path: &Path, content: Content, slot: Option<Held>) -> Self {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CONTENT_TYPE, content_type(path));
        headers.insert(CONTENT_LENGTH, stamp.size.into());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let validators = Known::of(stamp);
        if let Some(known) = &validators {
            known.add_to(&mut headers);
        }
        Self { stamp, headers, validators, content, _slot: slot }
    }

    /// The headers of a 200. A 206 has a different length.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers of a 304.
    pub(super) fn validating_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        if let Some(known) = &self.validators {
            known.add_to(&mut headers);
        }
        headers
    }

    pub(super) fn validators(&self) -> Validators<'_> {
        let known = self.validators.as_ref();
        Validators {
            etag: known.map_or(b"", |it| it.etag.as_bytes()),
            modified: known.map(|it| it.modified),
            size: self.stamp.size,
        }
    }

    /// The size in memory, if the file is small enough to be cached.
    pub(super) fn cacheable_len(&self) -> Option<usize> {
        match &self.content {
            Content::Memory(data) => Some(data.len()),
            Content::Disk(_) => None,
        }
    }

    pub(super) fn body(self: &Arc<Self>, range: Range<u64>) -> FileBody {
        match &self.content {
            Content::Memory(data) => FileBody::memory(part(data, &range)),
            Content::Disk(file) => FileBody::disk(Arc::clone(file), range, Arc::clone(self) as _),
        }
    }
}

impl Known {
    /// Returns `None` if the modification time is artificial, as in reproducible builds and some images: it
    /// is the same for all versions of the file then.
    fn of(stamp: Stamp) -> Option<Self> {
        let modified = u64::try_from(stamp.modified / 1_000_000_000).unwrap_or(u64::MAX);
        if modified <= 1 {
            return None;
        }
        // A modification time must not be in the future (RFC 9110, section 8.8.2.1).
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = modified.min(now.as_secs());
        Some(Self {
            etag: text(&format!("\"{:x}-{:x}-{:x}\"", stamp.modified, stamp.inode(), stamp.size)),
            last_modified: text(&httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(modified))),
            modified,
        })
    }

    fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(LAST_MODIFIED, self.last_modified.clone());
        headers.insert(ETAG, self.etag.clone());
    }
}

fn part(data: &Bytes, range: &Range<u64>) -> Bytes {
    let index = |at: u64| usize::try_from(at).map_or(data.len(), |at| at.min(data.len()));
    data.slice(index(range.start)..index(range.end))
}

/// Reads the whole file, and its state at that moment. Fails if the file keeps changing.
async fn read(mut open: OpenFile) -> Result<(Bytes, Stamp), OpenError> {
    for _ in 0..3 {
        let before = open.stamp;
        let len = usize::try_from(before.size).unwrap_or(usize::MAX);
        let mut data = BytesMut::zeroed(len);
        let mut count = read_cached(&open.file, &mut data, 0).unwrap_or(0);
        if count < len || open.file.waits() {
            (open, data, count) = read_waiting(open, data).await?;
        } else {
            // A file that could be opened and read without blocking isn't on a network.
            open.stamp = open.stamp_now()?;
        }
        if count == len && open.stamp == before {
            return Ok((data.freeze(), before));
        }
        if open.stamp.size > MEMORY_MAX {
            break;
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file is being written").into())
}

/// Reads on a disk thread. The stamp is taken after the read.
async fn read_waiting(
    mut open: OpenFile,
    mut data: BytesMut,
) -> Result<(OpenFile, BytesMut, usize), OpenError> {
    let disk = open.file.disk.clone();
    let read = move || {
        let mut count = 0;
        while count < data.len() {
            match open.file.get()?.read_at(&mut data[count..], count as u64)? {
                0 => break,
                more => count += more,
            }
        }
        open.stamp = open.stamp_now()?;
        io::Result::Ok((open, data, count))
    };
    Ok(disk.run(read).await??)
}

/// The content type by file extension, as in nginx. Text is UTF-8.
fn content_type(path: &Path) -> HeaderValue {
    match mime_guess::from_path(path).first_raw() {
        Some(text_type) if text_type.starts_with("text/") => text(&format!("{text_type}; charset=utf-8")),
        Some(other) => HeaderValue::from_static(other),
        None => HeaderValue::from_static("application/octet-stream"),
    }
}

/// Creates a header value. All values here are visible ASCII.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}
