//! A decoded request path below a static folder that is proven to stay within it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::percent_decode_str;

/// Maximum length of a path in bytes, as in the kernel.
const PATH_MAX: usize = 4096;
/// The page that is served for a folder.
const INDEX: &[u8] = b"index.html";
/// The only hidden folder that may be served (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// Which names may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Names that aren't hidden. A folder stands for its index page.
    Public,
    /// Any file, for requests by the app.
    Any,
}

/// A relative path without `.`, `..`, hidden names and empty segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePath(Vec<u8>);

impl FilePath {
    /// Parses the percent-encoded path after the prefix. A folder (a path with a trailing slash) stands for
    /// its `index.html`. Returns `None` if the path may not be served, which is a 404.
    pub(super) fn parse(raw: &str, names: Names) -> Option<Self> {
        if raw.len() > PATH_MAX {
            return None;
        }
        let mut path = Vec::with_capacity(raw.len() + INDEX.len());
        for segment in raw.split('/').filter(|segment| !segment.is_empty()) {
            if !path.is_empty() {
                path.push(b'/');
            }
            let start = path.len();
            path.extend(percent_decode_str(segment));
            if !is_servable(&path[start..], names) {
                return None;
            }
        }
        let path = Self(path);
        match raw.is_empty() || raw.ends_with('/') {
            true => (names == Names::Public).then(|| path.index()),
            false => Some(path),
        }
    }

    /// The index page of this folder.
    pub(super) fn index(mut self) -> Self {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(INDEX);
        self
    }

    pub(super) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// Whether a decoded segment contains no separator and isn't hidden.
fn is_servable(segment: &[u8], names: Names) -> bool {
    let is_refused = match names {
        Names::Public => segment.starts_with(b".") && segment != WELL_KNOWN || segment.contains(&b'\\'),
        Names::Any => matches!(segment, b"." | b".."),
    };
    !is_refused && !segment.iter().any(|byte| matches!(byte, 0 | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        for (raw, expected) in [
            ("a.css", Some("a.css")),
            ("css/a.css", Some("css/a.css")),
            ("css//a.css", Some("css/a.css")),
            ("/a.css", Some("a.css")),
            ("a%20b.css", Some("a b.css")),
            ("%61.css", Some("a.css")),
            ("100%.css", Some("100%.css")),
            ("%zz.css", Some("%zz.css")),
            ("a..b", Some("a..b")),
            ("a.", Some("a.")),
            (".well-known/x", Some(".well-known/x")),
            ("", Some("index.html")),
            ("/", Some("index.html")),
            ("docs/", Some("docs/index.html")),
            ("docs//", Some("docs/index.html")),
            ("..", None),
            ("../secret", None),
            ("a/../b", None),
            ("a/..", None),
            (".", None),
            ("a/./b", None),
            ("%2e%2e/secret", None),
            (".%2E/secret", None),
            ("%2e/a", None),
            ("..%2fsecret", None),
            ("a%2fb", None),
            ("a%2Fb", None),
            ("a%00.css", None),
            ("%00", None),
            ("a\\b", None),
            ("..\\secret", None),
            ("a%5cb", None),
            (".env", None),
            (".git/config", None),
            ("a/.hidden", None),
            ("%2egit/config", None),
            (".well-known/.x", None),
            ("...", None),
        ] {
            let path = FilePath::parse(raw, Names::Public);
            assert_eq!(path.as_ref().map(FilePath::as_path), expected.map(Path::new), "{raw}");
        }
        // Only decoded once: the rest is part of the file name.
        assert_eq!(FilePath::parse("%252e%252e/a", Names::Public).unwrap().as_path(), Path::new("%2e%2e/a"));
        assert_eq!(FilePath::parse("%ff", Names::Public).unwrap().as_path().as_os_str().as_bytes(), [0xff]);
        assert_eq!(FilePath::parse(&"a".repeat(PATH_MAX + 1), Names::Public), None);
    }

    #[test]
    fn an_app_may_name_any_file_and_no_folder() {
        for (raw, expected) in [
            ("a.css", Some("a.css")),
            (".cache/a", Some(".cache/a")),
            ("a\\b", Some("a\\b")),
            ("100%25", Some("100%")),
            ("", None),
            ("a/", None),
            ("../a", None),
            ("a/%2e%2e/b", None),
            ("./a", None),
            ("a%2fb", None),
            ("a%00", None),
        ] {
            let path = FilePath::parse(raw, Names::Any);
            assert_eq!(path.as_ref().map(FilePath::as_path), expected.map(Path::new), "{raw}");
        }
    }
}
