//! Early hints (RFC 8297): interim 103 responses, written between hyper's own messages.
//!
//! hyper's server can't send interim responses, so they bypass it, for HTTP/1.1 only. When hyper flushes the
//! connection, all its data has been written, and the response to the current request hasn't started. HTTP/2
//! frames can't be inserted that way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use parking_lot::Mutex;

/// Maximum number of bytes that wait for a client that doesn't read. Further hints are dropped.
const MAX_WAITING: usize = 64 * 1024;

/// Early hints for one connection that aren't written yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct EarlyHints(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Whether there is text. Checked on every flush, without the lock.
    any: AtomicBool,
    text: Mutex<BytesMut>,
}

impl EarlyHints {
    /// Sends `headers` as an interim response with the next flush.
    pub(crate) fn send(&self, headers: &HeaderMap) {
        let mut text = self.0.text.lock();
        if headers.is_empty() || text.len() > MAX_WAITING {
            return;
        }
        text.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            push_title_case(&mut text, name.as_str());
            for part in [b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(b"\r\n");
        self.0.any.store(true, Ordering::Relaxed);
    }

    /// Discards hints that weren't sent, because the final response is there and they would come after it.
    pub(crate) fn withdraw(&self) {
        self.0.text.lock().clear();
        self.0.any.store(false, Ordering::Relaxed);
    }

    /// Takes the hints to be sent, if there are any.
    pub(crate) fn take(&self) -> Option<Bytes> {
        if !self.0.any.load(Ordering::Relaxed) {
            return None;
        }
        self.0.any.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut *self.0.text.lock()).freeze())
    }
}

/// Writes a name in title case, as hyper does for HTTP/1.1.
fn push_title_case(text: &mut BytesMut, name: &str) {
    let mut after = b'-';
    text.extend(name.bytes().map(|byte| {
        let cased = if after == b'-' { byte.to_ascii_uppercase() } else { byte };
        after = byte;
        cased
    }));
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::LINK;

    use super::*;

    #[test]
    fn waiting_hints_are_bounded() {
        let hints = EarlyHints::default();
        let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static("<a>"))]);
        for _ in 0..10_000 {
            hints.send(&headers);
        }
        assert!(hints.take().is_some_and(|it| it.len() <= MAX_WAITING + 64));
        assert_eq!(hints.take(), None);
    }
}
