//! The names of apps and of their workers: once parsed, the type is the proof.

use std::fmt;

/// The name of an app, which is its file's name without `.toml`: 1 to 64 of `a-z 0-9 _ -`, beginning
/// with a letter or a digit, and safe as a part of a file name, a unit name and a log line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VassalName(String);

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more than 64 characters.
    #[error("name `{0}` has {len} characters, where 1 to 64 are allowed", len = .0.chars().count())]
    Length(String),
    /// A character that is not allowed at its place.
    #[error(
        "name `{name}` has `{character}` in it, where a-z, 0-9, `_` and `-` are allowed and the first is a letter or a digit"
    )]
    Character {
        /// The whole name.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// A worker's name without its number.
    #[error("worker name `{0}` does not end in `-` and a number from 1 to 65535")]
    Number(String),
}

impl VassalName {
    /// Parses a name.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character that is not allowed.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.chars().count() > 64 {
            return Err(NameError::Length(name.chars().take(80).collect()));
        }
        let allowed = |(at, c): &(usize, char)| {
            matches!(c, 'a'..='z' | '0'..='9') || (*at > 0 && matches!(c, '_' | '-'))
        };
        match name.char_indices().find(|it| !allowed(it)) {
            Some((_, character)) => Err(NameError::Character { name: name.to_owned(), character }),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VassalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one worker: its app's and a number, such as `blog-2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName {
    /// The app.
    pub vassal: VassalName,
    /// From 1 up.
    pub number: u16,
}

impl WorkerName {
    /// Parses a name such as `blog-2`.
    ///
    /// # Errors
    /// When the app's part is not a name or the number is missing.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let missing = || NameError::Number(name.chars().take(80).collect());
        let (vassal, number) = name.rsplit_once('-').ok_or_else(missing)?;
        let canonical = !number.starts_with(['0', '+']);
        let number = number.parse().ok().filter(|_| canonical).ok_or_else(missing)?;
        Ok(Self { vassal: VassalName::parse(vassal)?, number })
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.vassal, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vassal_names() {
        for good in ["a", "blog", "my-blog_2", "0day", &"x".repeat(64)] {
            assert_eq!(VassalName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "Blog", "a.b", "a/b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(VassalName::parse(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn worker_names() {
        let name = WorkerName::parse("my-blog-12").unwrap();
        assert_eq!((name.vassal.as_str(), name.number), ("my-blog", 12));
        assert_eq!(name.to_string(), "my-blog-12");
        for bad in ["blog", "blog-", "blog-0", "blog-01", "blog-x", "blog-65536", "-1", "blog-+1"] {
            assert!(WorkerName::parse(bad).is_err(), "{bad} was taken");
        }
    }
}
