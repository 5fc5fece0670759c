//! Describes the keys of a file, for its parser, diagnostics, reference, example and JSON Schema.

use std::time::Duration;

/// The tables that a file may contain. The first one is the root, whose name is `""`.
pub type Schema = &'static [Table];

/// A table of a file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The name, `""` for the root.
    pub name: &'static str,
    /// What the table is for, in Markdown.
    pub help: &'static str,
    /// The keys it may contain.
    pub keys: Keys,
}

/// The keys of a table.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// Only these keys.
    Known(&'static [Key]),
    /// Keys that the operator chooses, read with [`crate::Document::entries`].
    Free(Entries),
    /// The same, with values that no diagnostic shows.
    Secret(Entries),
}

/// Keys that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// What a key is, such as `URL prefix`.
    pub key: &'static str,
    /// A regular expression (ECMA 262) that each key matches.
    pub pattern: &'static str,
    /// The kind of the values.
    pub value: Kind,
    /// Lines for the example. A line that starts with `#` is commented out.
    pub example: &'static [&'static str],
}

/// A known key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// What it sets, in Markdown. The first sentence is a summary, and starts with words such as `The number
    /// of` or `How long`.
    pub help: &'static str,
    /// What applies if the key is omitted.
    pub default: Default,
    /// The value in the example, if it isn't the default.
    pub example: Option<Example>,
}

/// What applies if a key is omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// The key is required.
    Required,
    /// This value, as TOML.
    Value(&'static str),
    /// A value that depends on the machine or the file, in words.
    Varies(&'static str),
    /// No limit, or nothing.
    None,
}

/// A value in the example, as TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// The key is set to it.
    Set(&'static str),
    /// The line is commented out.
    Commented(&'static str),
}

/// The kind of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Any string.
    Text,
    /// The path of a file or folder.
    Path,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// An IP address with a port.
    Address,
    /// A string or an array of strings.
    Texts,
    /// An IP address with a port, or an array of them.
    Addresses,
    /// A whole number in this range (inclusive).
    Integer(i64, i64),
    /// A duration in this range (inclusive).
    Duration(Duration, Duration),
    /// A size in this range, in bytes (inclusive).
    Size(u64, u64),
    /// A percentage in this range (inclusive).
    Percent(u32, u32),
    /// `true`, `false`, or a table with these keys.
    Switch(&'static [Key]),
    /// A path, or a table with these keys.
    PathOrTable(&'static [Key]),
}

impl Table {
    /// The root of a file.
    #[must_use]
    pub const fn root(keys: &'static [Key]) -> Self {
        Self { name: "", help: "", keys: Keys::Known(keys) }
    }

    /// A table with only these keys.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, keys: &'static [Key]) -> Self {
        Self { name, help, keys: Keys::Known(keys) }
    }

    /// A table whose keys the operator chooses.
    #[must_use]
    pub const fn free(name: &'static str, help: &'static str, entries: Entries) -> Self {
        Self { name, help, keys: Keys::Free(entries) }
    }

    /// A table whose keys the operator chooses, and whose values no diagnostic shows.
    #[must_use]
    pub const fn secret(name: &'static str, help: &'static str, entries: Entries) -> Self {
        Self { name, help, keys: Keys::Secret(entries) }
    }
}

impl Keys {
    /// The key with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'static Key> {
        match self {
            Self::Known(keys) => keys.iter().find(|it| it.name == name),
            Self::Free(_) | Self::Secret(_) => None,
        }
    }

    /// The names of all known keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let keys = match self {
            Self::Known(keys) => *keys,
            Self::Free(_) | Self::Secret(_) => &[],
        };
        keys.iter().map(|it| it.name)
    }
}

impl Key {
    /// An optional key without a default.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help, default: Default::None, example: None }
    }

    /// Makes the key required.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.default = Default::Required;
        self
    }

    /// Sets the default, as TOML.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Default::Value(value);
        self
    }

    /// Sets the default, in words.
    #[must_use]
    pub const fn varies(mut self, words: &'static str) -> Self {
        self.default = Default::Varies(words);
        self
    }

    /// Sets the key in the example.
    #[must_use]
    pub const fn set(mut self, value: &'static str) -> Self {
        self.example = Some(Example::Set(value));
        self
    }

    /// Shows the key in the example, commented out.
    #[must_use]
    pub const fn example(mut self, value: &'static str) -> Self {
        self.example = Some(Example::Commented(value));
        self
    }

    /// The first sentence of the help, for use within another sentence: `the number of processes`.
    #[must_use]
    pub fn summary(&self) -> String {
        let end = self.help.find(". ").unwrap_or(self.help.len());
        let mut letters = self.help[..end].trim_end_matches('.').chars();
        let first = letters.next().into_iter().flat_map(char::to_lowercase);
        first.chain(letters).collect()
    }
}
