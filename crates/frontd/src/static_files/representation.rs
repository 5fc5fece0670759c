//! A file as it is served: its bytes, and the headers that go with them.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};

use super::body::{FileBody, read_cached};
use super::conditional::Validators;
use super::open::{DiskFile, OpenError, OpenFile, Stamp};
use crate::quota::{Held, Quota};

/// The largest file that is held in memory, in bytes.
const MEMORY_MAX: u64 = 256 * 1024;

#[derive(Debug)]
pub(super) struct Representation {
    pub(super) stamp: Stamp,
    /// Those of a 200, in full.
    headers: HeaderMap,
    validators: Option<Known>,
    content: Content,
    /// Its place among the open files.
    _slot: Option<Held>,
}

/// What tells this version of the file from others.
#[derive(Debug)]
struct Known {
    etag: HeaderValue,
    last_modified: HeaderValue,
    /// In seconds since 1970.
    modified: u64,
}

#[derive(Debug)]
enum Content {
    Memory(Bytes),
    Disk(Arc<DiskFile>),
}

impl Representation {
    /// Reads a small file whole, and keeps a large one open, which is one of `files`.
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

    /// The headers of a 200, and of a 206 but for its length.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Those of a 304.
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

    /// Bytes that it holds in memory, if it is one to be held.
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
    /// None where the time of modification is made up, as in builds that are reproducible and some images: all versions
    /// of the file have the same then.
    fn of(stamp: Stamp) -> Option<Self> {
        let modified = u64::try_from(stamp.modified / 1_000_000_000).unwrap_or(u64::MAX);
        if modified <= 1 {
            return None;
        }
        // In the future no file has been modified (RFC 9110, 8.8.2.1).
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

/// The whole file, and what it was at that moment. One that keeps changing under the read is an error.
async fn read(mut open: OpenFile) -> Result<(Bytes, Stamp), OpenError> {
    for _ in 0..3 {
        let before = open.stamp;
        let len = usize::try_from(before.size).unwrap_or(usize::MAX);
        let mut data = BytesMut::zeroed(len);
        let mut count = read_cached(&open.file, &mut data, 0).unwrap_or(0);
        if count < len || open.file.waits() {
            (open, data, count) = read_waiting(open, data).await?;
        } else {
            // What could be opened and read at once is on no network.
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

/// The same on a thread of the disk. Its stamp is that of the end of the read.
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

/// By the name's extension, as nginx does; text is UTF-8.
fn content_type(path: &Path) -> HeaderValue {
    match mime_guess::from_path(path).first_raw() {
        Some(text_type) if text_type.starts_with("text/") => text(&format!("{text_type}; charset=utf-8")),
        Some(other) => HeaderValue::from_static(other),
        None => HeaderValue::from_static("application/octet-stream"),
    }
}

/// Of visible ASCII, as all that is written here.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}
