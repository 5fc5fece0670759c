//! Reads a TOML file key by key, and collects all its problems.

mod secrets;
mod syntax;

use std::ops::Range;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use miette::NamedSource;
use toml_edit::{Array, Item, TableLike, Value};

use crate::diagnostics::{Diagnostics, Problem, Wrong};
use crate::schema::{Key, Keys, Schema, Table};
use crate::source::Source;
use crate::value;
use secrets::Secrets;

/// A TOML file that is being read. Problems are collected along the way, and the file is refused at the end
/// with all of them.
#[derive(Debug)]
pub struct Document {
    source: Source,
    shown: Arc<NamedSource<String>>,
    root: toml_edit::Table,
    schema: Schema,
    secrets: Secrets,
    /// Translates keys of other programs.
    foreign: Translate,
    problems: Vec<Problem>,
}

/// Returns a hint for a key of another program.
pub type Translate = fn(&str) -> Option<&'static str>;

impl Document {
    /// Parses a text. `path` is used in errors, and as the base of relative paths.
    ///
    /// # Errors
    ///
    /// Returns an error if the text isn't TOML. Unknown keys are collected for [`Document::finish`].
    pub fn parse(source: Source, schema: Schema) -> Result<Self, Diagnostics> {
        Self::parse_translating(source, schema, |_| None)
    }

    /// Like `parse`, with hints from `foreign` for unknown keys.
    ///
    /// # Errors
    ///
    /// The same as `parse`.
    pub fn parse_translating(
        source: Source,
        schema: Schema,
        foreign: Translate,
    ) -> Result<Self, Diagnostics> {
        let shown = |secrets: &Secrets| {
            Arc::new(NamedSource::new(source.path.display().to_string(), secrets.mask(&source.text)))
        };
        let parsed = toml_edit::Document::parse(source.text.as_str()).map(toml_edit::Document::into_table);
        match parsed {
            Ok(root) => {
                let secrets = Secrets::of_table(&root, &source.text, schema);
                let shown = shown(&secrets);
                let mut document =
                    Self { source, shown, root, schema, secrets, foreign, problems: Vec::new() };
                document.refuse_unknown();
                Ok(document)
            }
            Err(error) => {
                let secrets = Secrets::of_broken(&source.text, schema);
                let span = error.span().unwrap_or(0..0);
                let wrong = match secrets.touch(&span) {
                    true => syntax::explain_secret(&error),
                    false => syntax::explain(&error, &source.text),
                };
                Err(source.problem(&shown(&secrets), secrets.narrowed(span), wrong).into())
            }
        }
    }

    /// The absolute path of the folder that contains the file.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let path = absolute(&self.source.path).unwrap_or_else(|_| self.source.path.clone());
        path.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// The value of a key such as `workers` or `queue.size`, if it exists and is valid.
    pub fn optional<T>(&mut self, key: &str, parse: impl FnOnce(&Value) -> Result<T, Wrong>) -> Option<T> {
        let found = self.find(key)?;
        match parse(&found.value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let wrong = match self.key(key) {
                    Some(it) => wrong.or_hint(|| format!("it sets {}", it.summary())),
                    None => wrong,
                };
                self.refuse_at(found.span, wrong.of(key))
            }
        }
    }

    /// Whether a key exists, valid or not.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The line of a key's value, from 1, if the key exists: for an error about another key.
    #[must_use]
    pub fn line(&self, key: &str) -> Option<usize> {
        self.find(key).map(|found| self.source.position(found.span.start).0)
    }

    /// Whether a key of the root is in a table instead.
    #[must_use]
    pub fn is_misplaced(&self, key: &str) -> bool {
        self.misplaced(key).is_some()
    }

    /// The value of a required key, if it is valid. `example` is suggested if the key is missing.
    pub fn required<T>(
        &mut self,
        key: &str,
        example: &str,
        parse: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        if self.find(key).is_some() { self.optional(key, parse) } else { self.missing(key, example) }
    }

    fn missing<T>(&mut self, key: &str, example: &str) -> Option<T> {
        match self.misplaced(key) {
            Some((table, span)) => {
                let wrong = Wrong::new(format!("`{key}` is in `[{table}]`"));
                self.refuse_at(span, wrong.hint(MOVE_TO_TOP))
            }
            None => {
                let wrong = Wrong::new(format!("`{key}` is missing"));
                self.refuse_at(0..0, wrong.hint(format!("write {example}")))
            }
        }
    }

    /// The valid strings of an array. A single string counts as an array of one.
    pub fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
        let found = self.find(key)?;
        let elements: Vec<&Value> = match &found.value {
            Value::Array(array) => array.iter().collect(),
            other => vec![other],
        };
        let mut list = Vec::new();
        for element in elements {
            match value::text(element).and_then(&parse) {
                Ok(parsed) => list.push(parsed),
                Err(wrong) => {
                    let span = element.span().unwrap_or_else(|| found.span.clone());
                    self.refuse_at::<T>(span, wrong.of(key));
                }
            }
        }
        Some(list)
    }

    /// The strings of an array that must not be empty. `example` is suggested if it is.
    pub fn required_list<T>(
        &mut self,
        key: &str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let found = self.find(key);
        match found.map(|found| (found.value.as_array().is_some_and(Array::is_empty), found.span)) {
            None => self.missing(key, example),
            Some((true, span)) => {
                let wrong = Wrong::new("must have at least one element").of(key);
                self.refuse_at(span, wrong.hint(format!("write {example}")))
            }
            Some((false, _)) => self.list(key, parse),
        }
    }

    /// The valid entries of a table whose keys the operator chooses.
    pub fn entries<K, V>(
        &mut self,
        table: &str,
        parse_key: impl Fn(&str) -> Result<K, Wrong>,
        parse_value: impl Fn(&Value) -> Result<V, Wrong>,
    ) -> Vec<(K, V)> {
        let mut entries = Vec::new();
        for entry in self.entries_of(table) {
            let parsed = parse_key(&entry.key).map_err(|wrong| (entry.key_span, wrong));
            let is_secret = matches!(self.keys_of(table), Some(Keys::Secret(_)));
            let parsed = parsed.and_then(|key| match parse_value(&entry.value) {
                Ok(value) => Ok((key, value)),
                Err(_) if is_secret => Err((entry.value_span, value::secret(&entry.value))),
                Err(wrong) => Err((entry.value_span, wrong)),
            });
            match parsed {
                Ok(entry) => entries.push(entry),
                Err((span, wrong)) => {
                    let misplaced = self.key(&entry.key).is_some();
                    let wrong = if misplaced { wrong.hint(MOVE_TO_TOP) } else { wrong };
                    self.refuse_at::<V>(span, wrong.of(&format!("{table}.{}", entry.key)));
                }
            }
        }
        entries
    }

    /// Reports a problem with a key's value, such as a conflict with another key.
    pub fn refuse(&mut self, key: &str, wrong: Wrong) {
        let span = self.find(key).map_or(0..0, |found| found.span);
        self.refuse_at::<()>(span, wrong.of(key));
    }

    /// Finishes reading and returns `value`.
    ///
    /// # Errors
    ///
    /// Returns all problems. `value` may only be `None` if a required key is invalid or missing.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Diagnostics> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Diagnostics::new(self.problems)),
        }
    }

    /// Only the first problem at a location is reported, because the others follow from it.
    fn refuse_at<T>(&mut self, span: Range<usize>, wrong: Wrong) -> Option<T> {
        let reported = |problem: &Problem| !span.is_empty() && problem.start() == span.start;
        if self.problems.len() < MAX_PROBLEMS && !self.problems.iter().any(reported) {
            let span = self.secrets.narrowed(span);
            self.problems.push(self.source.problem(&self.shown, span, wrong));
        }
        None
    }
}

/// Maximum number of problems reported at a time.
const MAX_PROBLEMS: usize = 100;

const MOVE_TO_TOP: &str = "move it to the top of the file, above the first `[`";

/// A value and its location.
struct Found {
    value: Value,
    span: Range<usize>,
}

struct Entry {
    key: String,
    key_span: Range<usize>,
    value: Value,
    value_span: Range<usize>,
}

/// What the file contains, and what the schema allows.
impl Document {
    fn table(&self, name: &str) -> Option<&dyn TableLike> {
        if name.is_empty() { Some(&self.root) } else { self.root.get(name)?.as_table_like() }
    }

    fn find(&self, key: &str) -> Option<Found> {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        let (key, item) = self.table(table)?.get_key_value(name)?;
        let span = item.span().or_else(|| key.span()).unwrap_or_default();
        Some(Found { value: item.clone().into_value().ok()?, span })
    }

    fn entries_of(&self, table: &str) -> Vec<Entry> {
        let Some(table) = self.table(table) else { return Vec::new() };
        let entry = |(name, item): (&str, &Item)| {
            let key_span = table.key(name).and_then(toml_edit::Key::span).unwrap_or_default();
            let value_span = item.span().unwrap_or_else(|| key_span.clone());
            Some(Entry { key: name.to_owned(), key_span, value: item.clone().into_value().ok()?, value_span })
        };
        table.iter().filter_map(entry).collect()
    }

    fn keys_of(&self, table: &str) -> Option<Keys> {
        self.schema.iter().find(|it| it.name == table).map(|it| it.keys)
    }

    /// The schema of a key such as `workers` or `queue.size`.
    fn key(&self, key: &str) -> Option<&'static Key> {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        self.keys_of(table)?.get(name)
    }

    fn keys(&self, table: &str) -> Vec<&'static str> {
        let tables = self.schema.iter().map(|it| it.name).filter(|it| table.is_empty() && !it.is_empty());
        match self.keys_of(table) {
            Some(keys @ Keys::Known(_)) => keys.names().chain(tables).collect(),
            _ => Vec::new(),
        }
    }

    /// A table that contains this key of the root, and the key's location.
    fn misplaced(&self, key: &str) -> Option<(&'static str, Range<usize>)> {
        self.schema.iter().map(|it| it.name).filter(|table| !table.is_empty()).find_map(|table| {
            let span = self.table(table)?.key(key)?.span()?;
            Some((table, span))
        })
    }

    fn refuse_unknown(&mut self) {
        for Table { name: table, keys, .. } in self.schema {
            self.refuse_no_table(table);
            if matches!(keys, Keys::Known(_)) {
                let known = self.keys(table);
                for entry in self.entries_of(table).into_iter().filter(|it| !known.contains(&it.key.as_str()))
                {
                    let wrong = self.unknown(table, &entry);
                    self.refuse_at::<()>(entry.key_span, wrong);
                }
            }
        }
    }

    fn refuse_no_table(&mut self, name: &str) {
        if !name.is_empty() && self.root.contains_key(name) && self.table(name).is_none() {
            self.refuse(
                name,
                Wrong::new("must be a table")
                    .hint(format!("write [{name}], and its keys in the lines below")),
            );
        }
    }

    fn unknown(&self, table: &str, entry: &Entry) -> Wrong {
        let place = if table.is_empty() { String::new() } else { format!(" in `[{table}]`") };
        let wrong = Wrong::new(format!("unknown key `{}`{place}", entry.key));
        let known = self.keys(table);
        let nearest = nearest(&entry.key, &known);
        // Within a table, its own keys are considered before those of other programs. At the top, keys of any
        // table may be meant, except by an inline table.
        let elsewhere = || match (self.foreign)(&entry.key) {
            Some(hint) => Some(hint.to_owned()),
            None => self.right_place(entry),
        };
        if (table.is_empty() && !entry.value.is_inline_table() || nearest.is_none())
            && let Some(hint) = elsewhere()
        {
            return wrong.hint(hint);
        }
        match nearest {
            Some(nearest) => wrong.hint(format!("did you mean `{nearest}`?")),
            None => wrong.hint(format!("the keys are `{}`", known.join("`, `"))),
        }
    }

    /// Where a misplaced key belongs.
    fn right_place(&self, entry: &Entry) -> Option<String> {
        if entry.value.is_inline_table() {
            return None;
        }
        let table = self.schema.iter().find(|it| it.keys.get(&entry.key).is_some())?.name;
        Some(if table.is_empty() { MOVE_TO_TOP.to_owned() } else { format!("it belongs in `[{table}]`") })
    }
}

/// The known key that is probably meant by a typo.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(key, candidate);
    let nearest = known.iter().min_by_key(distance)?;
    (distance(&nearest) <= (nearest.len() / 3).max(1)).then_some(*nearest)
}

#[cfg(test)]
mod tests;
