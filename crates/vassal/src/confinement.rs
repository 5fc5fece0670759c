//! The user of an app's processes, and their limits.

use std::fmt;

use config::{Document, Wrong, value};

/// Maximum length of a user name, as in `useradd`.
const MAX_NAME: usize = 32;

/// How each process of an app is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The user. `None` means the owner of the app's directory.
    pub user: Option<UserName>,
    /// The owner of the app's directory when this version of the file was accepted, which is the user if
    /// `user` is `None`. Not part of the file: set by the code that accepts the file.
    pub owner: Option<u32>,
    /// Maximum memory in bytes. `None` means no limit.
    pub memory: Option<u64>,
    /// Maximum processor time in percent, where 100 is one whole processor. `None` means no limit.
    pub cpu: Option<u32>,
}

impl Confinement {
    /// Reads `user`, `limits.memory` and `limits.cpu`.
    pub(crate) fn read(file: &mut Document) -> Self {
        Self {
            user: file.optional("user", |it| UserName::parse(value::text(it)?)),
            owner: None,
            memory: file.optional("limits.memory", value::size(1_000_000..=1 << 50)),
            cpu: file.optional("limits.cpu", value::percent(1..=100_000)),
        }
    }
}

/// A user name that is valid on all systems. An app only runs as root if root is named explicitly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// Parses a name of letters, digits, `_`, `-` and `.`.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is invalid.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let other = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
        let first = |c: char| c == '_' || c.is_ascii_alphabetic();
        if !text.starts_with(first) || text.contains(other) || text.len() > MAX_NAME {
            let wrong = Wrong::new(format!("must be the name of a user, not \"{text}\""));
            return Err(wrong.hint("write for example \"blog\""));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
