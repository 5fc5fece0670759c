//! The names of apps and workers. Parsing proves that they are valid.

use std::fmt;

/// The name of an app, which is its file's name without `.toml`: 1 to 64 characters of `a-z 0-9 _ -`,
/// starting with a letter or a digit. It is safe as part of a file name, a unit name and a log line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VassalName(String);

/// Why a name is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty or longer than 64 characters.
    #[error("name `{0}` has {len} characters, but must have 1 to 64", len = .0.chars().count())]
    Length(String),
    /// It contains a character that isn't allowed at that position.
    #[error(
        "name `{name}` contains `{character}`: use a-z, 0-9, `_` and `-`, and start with a letter or a digit"
    )]
    Character {
        /// The whole name.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// A worker's name has no number.
    #[error("worker name `{0}` doesn't end with `-` and a number from 1 to 65535")]
    Number(String),
}

impl VassalName {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is empty, too long, or contains a character that isn't allowed.
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

/// The name of a worker: its app's name and a number, such as `blog-2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerName {
    /// The app.
    pub vassal: VassalName,
    /// Starts at 1.
    pub number: u16,
}

impl WorkerName {
    /// Parses a name such as `blog-2`.
    ///
    /// # Errors
    ///
    /// Returns an error if the app's name is invalid or the number is missing.
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
            assert!(VassalName::parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn worker_names() {
        let name = WorkerName::parse("my-blog-12").unwrap();
        assert_eq!((name.vassal.as_str(), name.number), ("my-blog", 12));
        assert_eq!(name.to_string(), "my-blog-12");
        for bad in ["blog", "blog-", "blog-0", "blog-01", "blog-x", "blog-65536", "-1", "blog-+1"] {
            assert!(WorkerName::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
