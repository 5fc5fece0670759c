//! URL paths: where an app is mounted, and where its static folders are.

use std::fmt;

use config::Wrong;

/// The prefix that an app is mounted at: `/`, or a path such as `/blog` without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountPath(String);

/// A URL path that starts and ends with a slash, such as `/static/`, or the path of a single file, such as
/// `/favicon.ico`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StaticPrefix(String);

/// The URL path of a health check, such as `/up`. It is within the app's own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPath(String);

impl HealthPath {
    /// Parses a path of an app that is mounted at `mount`.
    ///
    /// # Errors
    ///
    /// Returns an error if the path doesn't start with a slash, is outside of `mount`, or isn't a plain path.
    pub fn parse(text: &str, mount: &MountPath) -> Result<Self, Wrong> {
        if !text.starts_with('/') {
            let wrong = Wrong::new(format!("must begin with `/`, not \"{text}\""));
            return Err(wrong.hint(format!("write \"/{text}\"")));
        }
        plain(if text.len() > 1 { text.trim_end_matches('/') } else { "" })?;
        match text.strip_prefix(mount.0.trim_end_matches('/')) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(Self(text.to_owned())),
            _ => Err(Wrong::new(format!("lies outside of the app's path `{mount}`"))
                .hint(format!("write \"{mount}{text}\""))),
        }
    }

    /// The path, as requested.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MountPath {
    /// Parses a path. Trailing slashes are dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if the path doesn't start with a slash, or isn't a plain path.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let trimmed = text.trim_end_matches('/');
        if !text.starts_with('/') {
            let path = text.trim_matches('/');
            return Err(
                Wrong::new(format!("must begin with `/`, not \"{text}\"")).hint(format!("write \"/{path}\""))
            );
        }
        plain(trimmed)?;
        Ok(Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }

    /// The path, as used in the routing table.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a static prefix is within this path.
    #[must_use]
    pub fn holds(&self, prefix: &StaticPrefix) -> bool {
        prefix.0.strip_prefix(self.0.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl Default for MountPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl StaticPrefix {
    /// Parses the prefix of a folder, or the path of a single file, which doesn't end with a slash.
    ///
    /// # Errors
    ///
    /// Returns an error if the path doesn't start with a slash, or isn't a plain path.
    pub fn parse_any(text: &str) -> Result<Self, Wrong> {
        if !text.starts_with('/') {
            let path = text.trim_matches('/');
            let wrong = Wrong::new("must begin with `/`");
            return Err(wrong.hint(format!("write \"/{path}/\" for a folder, \"/{path}\" for a file")));
        }
        plain(text.trim_end_matches('/'))?;
        Ok(Self(text.to_owned()))
    }

    /// Parses the prefix of a folder.
    ///
    /// # Errors
    ///
    /// Returns an error if the path doesn't start and end with a slash, or isn't a plain path.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if !text.starts_with('/') || !text.ends_with('/') {
            let path = text.trim_matches('/');
            return Err(Wrong::new("must begin and end with `/`").hint(format!("write \"/{path}/\"")));
        }
        plain(text.trim_end_matches('/'))?;
        Ok(Self(text.to_owned()))
    }

    /// The prefix, as used in the routing table.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StaticPrefix {
    /// Whether this is the prefix of a folder, not the path of a file.
    #[must_use]
    pub fn is_of_folder(&self) -> bool {
        self.0.ends_with('/')
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StaticPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that a path means the same to all readers: no empty segments, no dot segments, nothing that URLs
/// encode.
fn plain(path: &str) -> Result<(), Wrong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()+,;=:@".contains(c);
    if let Some(c) = path.chars().find(|c| !allowed(*c)) {
        return Err(Wrong::new(format!("must be a plain URL path, and has {c:?} in it")));
    }
    match path.split('/').skip(1).find(|segment| matches!(*segment, "" | "." | "..")) {
        Some("") => Err(Wrong::new("must not have `//` in it")),
        Some(dots) => Err(Wrong::new(format!("must not have `{dots}` in it"))),
        None => Ok(()),
    }
}
