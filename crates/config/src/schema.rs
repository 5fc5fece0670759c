//! Describes what a file may hold: for its parser, its diagnostics, its reference, its example and its JSON Schema.

use std::time::Duration;

/// The tables that a file may have. The first is the root, named by `""`.
pub type Schema = &'static [Table];

/// One table of a file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name; `""` for the root.
    pub name: &'static str,
    /// What it is for, in Markdown.
    pub help: &'static str,
    /// What may stand in it.
    pub keys: Keys,
}

/// The keys of one table.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// These and no others.
    Known(&'static [Key]),
    /// The operator's own, read with [`crate::Document::entries`].
    Free(Entries),
    /// The same; their values are in no diagnostic.
    Secret(Entries),
}

/// Keys that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// What a key is, such as `URL prefix`.
    pub key: &'static str,
    /// A regular expression (ECMA 262) that each key matches.
    pub pattern: &'static str,
    /// What its value is.
    pub value: Kind,
    /// Lines for the example. One that begins with `#` is commented out.
    pub example: &'static [&'static str],
}

/// A key that is known.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What it sets, in Markdown. The first sentence says it in short, and begins such as `The number of` or `How long`.
    pub help: &'static str,
    /// What applies if the file doesn't have the key.
    pub default: Default,
    /// Its value in the example, if that isn't its default.
    pub example: Option<Example>,
}

/// What applies if a key is omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// The key must not be omitted.
    Required,
    /// This value, as TOML.
    Value(&'static str),
    /// Something that depends on the machine or the file, in words.
    Varies(&'static str),
    /// No limit, or nothing at all.
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

/// What a value may be.
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
    /// A string, or an array of strings.
    Texts,
    /// An IP address with a port, or an array of them.
    Addresses,
    /// A whole number from one to the other.
    Integer(i64, i64),
    /// A duration from one to the other.
    Duration(Duration, Duration),
    /// A number of bytes from one to the other.
    Size(u64, u64),
    /// A percentage from one to the other.
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

    /// A table with these keys and no others.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, keys: &'static [Key]) -> Self {
        Self { name, help, keys: Keys::Known(keys) }
    }

    /// A table whose keys the operator chooses.
    #[must_use]
    pub const fn free(name: &'static str, help: &'static str, entries: Entries) -> Self {
        Self { name, help, keys: Keys::Free(entries) }
    }

    /// A table whose keys the operator chooses, and whose values are in no diagnostic.
    #[must_use]
    pub const fn secret(name: &'static str, help: &'static str, entries: Entries) -> Self {
        Self { name, help, keys: Keys::Secret(entries) }
    }
}

impl Keys {
    /// The key of this name.
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
    /// A key that may be omitted, which means none.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help, default: Default::None, example: None }
    }

    /// One that may not be omitted.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.default = Default::Required;
        self
    }

    /// Its default, as TOML.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Default::Value(value);
        self
    }

    /// Its default, in words.
    #[must_use]
    pub const fn varies(mut self, words: &'static str) -> Self {
        self.default = Default::Varies(words);
        self
    }

    /// Sets it in the example.
    #[must_use]
    pub const fn set(mut self, value: &'static str) -> Self {
        self.example = Some(Example::Set(value));
        self
    }

    /// Shows it in the example, commented out.
    #[must_use]
    pub const fn example(mut self, value: &'static str) -> Self {
        self.example = Some(Example::Commented(value));
        self
    }

    /// The first sentence of its help, to stand within another: `the number of processes`.
    #[must_use]
    pub fn summary(&self) -> String {
        let end = self.help.find(". ").unwrap_or(self.help.len());
        let mut letters = self.help[..end].trim_end_matches('.').chars();
        let first = letters.next().into_iter().flat_map(char::to_lowercase);
        first.chain(letters).collect()
    }
}
