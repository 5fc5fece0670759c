//! As whom an app's processes run, and what each may take of the machine.

use std::fmt;

use config::{Document, Wrong, value};

/// Names are as long as `useradd` lets them be.
const MAX_NAME: usize = 32;

/// How each process of an app is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// As whom it runs; None is the owner of the app's directory.
    pub user: Option<UserName>,
    /// Who owned the app's directory when this version of its file was accepted, and so runs it where there is no `user`.
    /// Not of the file: whoever accepts it sets it.
    pub owner: Option<u32>,
    /// The memory that it may take, in bytes; None is no limit.
    pub memory: Option<u64>,
    /// Its share of the processors in percent: 100 is the whole of one. None is no limit.
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

/// The name of a user, as every system can write it. Root has to be named to run an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// Parses a name of letters, digits, `_`, `-` and `.`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let other = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
        let first = |c: char| c == '_' || c.is_ascii_alphabetic();
        if !text.starts_with(first) || text.contains(other) || text.len() > MAX_NAME {
            let wrong = Wrong::new(format!("must be the name of a user, not \"{text}\""));
            return Err(wrong.cure("write for example \"blog\""));
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
