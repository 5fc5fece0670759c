//! Finds the text that diagnostics must not show: the values of tables such as `[env]`, and what may be one
//! of them.

use std::ops::Range;

use toml_edit::{Item, Table};

use super::{Keys, Schema, nearest};
use crate::schema;

/// How many asterisks replace a value, at most.
const MASK: usize = 3;

/// The secret ranges of a text, in no particular order.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<Range<usize>>);

impl Secrets {
    /// Secrets of a valid TOML file: the values of secret tables and of tables that may be misspelled ones,
    /// and the comments next to and below them.
    pub(super) fn of_table(root: &Table, text: &str, schema: Schema) -> Self {
        let mut secrets = Self::default();
        let mut first = None;
        for (name, item) in root.iter().filter(|(name, _)| is_secret(name, schema)) {
            secrets.add_values(item, text);
            if let Some(key) = root.key(name).and_then(toml_edit::Key::span) {
                first = Some(first.map_or(key.start, |it: usize| it.min(key.start)));
                if !item.is_value() {
                    secrets.0.push(after_header(text, key.end));
                }
            }
        }
        for schema::Table { name: table, keys, .. } in schema.iter().filter(|it| !it.name.is_empty()) {
            let Keys::Known(_) = keys else { continue };
            let known: Vec<_> = keys.names().collect();
            let entries = root.get(table).and_then(Item::as_table_like);
            for (key, item) in entries.into_iter().flat_map(toml_edit::TableLike::iter) {
                if !known.contains(&key) && nearest(key, &known).is_none() {
                    secrets.add_values(item, text);
                }
            }
        }
        if let Some(first) = first {
            secrets.add_comments(text, first);
        }
        secrets
    }

    /// Secrets of an invalid file: everything that doesn't clearly belong to a key whose values are shown.
    pub(super) fn of_broken(text: &str, schema: Schema) -> Self {
        let mut scanner = Scanner { schema, table: Some(""), is_secret: false, is_over: false };
        let mut secrets = Self::default();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            if let Some(shown) = scanner.shown_part(line) {
                secrets.0.push(start + shown..start + line.len());
            }
            start += line.len();
        }
        secrets
    }

    /// Whether this range contains anything secret.
    pub(super) fn touch(&self, span: &Range<usize>) -> bool {
        self.0.iter().any(|it| it.start < span.end.max(span.start + 1) && span.start < it.end)
    }

    /// The text with secrets masked. All other bytes keep their offset.
    pub(super) fn mask(&self, text: &str) -> String {
        let mut masked = text.as_bytes().to_vec();
        for span in &self.0 {
            let part = masked.get_mut(span.clone()).unwrap_or_default();
            for (at, byte) in part.iter_mut().filter(|byte| **byte != b'\n').enumerate() {
                *byte = if at < MASK { b'*' } else { b' ' };
            }
        }
        // Only whole characters are replaced.
        String::from_utf8(masked).unwrap_or_default()
    }

    /// The range to highlight in the masked text.
    pub(super) fn narrowed(&self, span: Range<usize>) -> Range<usize> {
        if self.touch(&span) { span.start..span.end.min(span.start + MASK) } else { span }
    }

    fn add_values(&mut self, item: &Item, text: &str) {
        match item {
            Item::None => {}
            Item::Table(table) => table.iter().for_each(|(_, item)| self.add_values(item, text)),
            Item::ArrayOfTables(tables) => {
                tables.iter().flatten().for_each(|(_, item)| self.add_values(item, text));
            }
            Item::Value(value) => match (value.as_inline_table(), value.span()) {
                // Created by dotted keys: its values have their own locations.
                (Some(table), None) => {
                    table.iter().for_each(|(_, it)| self.add_values(&Item::Value(it.clone()), text));
                }
                (_, Some(span)) => {
                    let end = text[span.end..].find('\n').map_or(text.len(), |it| span.end + it);
                    self.0.push(span.start..end);
                }
                (None, None) => {}
            },
        }
    }

    /// A comment may contain a former value.
    fn add_comments(&mut self, text: &str, from: usize) {
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let end = start + line.len();
            if let Some(comment) = line.trim_start().strip_prefix('#').filter(|_| start > from) {
                self.0.push(end - comment.len()..end);
            }
            start = end;
        }
    }
}

/// The text next to a table header whose name ends at `from`.
fn after_header(text: &str, from: usize) -> Range<usize> {
    let end = text[from..].find('\n').map_or(text.len(), |it| from + it);
    let header = text[from..end].find('#').map_or(end, |it| from + it + 1);
    header..end
}

/// Whether the values of a key of the root are secret: it names a secret table, or isn't close to any known
/// key.
fn is_secret(key: &str, schema: Schema) -> bool {
    let keys_of = |name: &str| schema.iter().find(|it| it.name == name).map(|it| it.keys);
    if let Some(keys) = keys_of(key).filter(|_| !key.is_empty()) {
        return matches!(keys, Keys::Secret(_));
    }
    let Some(root @ Keys::Known(_)) = keys_of("") else { return true };
    let tables = schema.iter().map(|it| it.name).filter(|it| !it.is_empty());
    let names: Vec<&'static str> = root.names().chain(tables).collect();
    match nearest(key, &names) {
        Some(name) => matches!(keys_of(name), Some(Keys::Secret(_))),
        None => true,
    }
}

/// Scans the lines of a text that isn't valid TOML.
struct Scanner {
    schema: Schema,
    /// The table that the lines belong to. `None` if its values are secret.
    table: Option<&'static str>,
    /// Whether the value of the last key is secret. It may continue on further lines.
    is_secret: bool,
    /// Whether a secret value may continue to the end of the file, whatever the lines look like.
    is_over: bool,
}

impl Scanner {
    /// How much of a line is shown. `None` means all of it.
    fn shown_part(&mut self, line: &str) -> Option<usize> {
        if self.is_over {
            return Some(0);
        }
        let shown = self.look_at(line);
        let value = &line[shown.unwrap_or(line.len())..];
        let opens = |it: &str| value.matches(it).count();
        self.is_over = shown.is_some()
            && (opens("\"") % 2 == 1
                || opens("'") % 2 == 1
                || opens("{") > opens("}")
                || opens("[") > opens("]"));
        shown
    }

    fn look_at(&mut self, line: &str) -> Option<usize> {
        let text = line.trim();
        if let Some(header) = text.strip_prefix('[') {
            return self.header(line, header);
        }
        let Some((key, _)) = line.split_once('=') else {
            let is_hidden = self.is_secret || self.table.is_none();
            return Some(0).filter(|_| is_hidden && !text.is_empty());
        };
        let name = first_part(key);
        self.is_secret = match self.table {
            None => true,
            Some("") => is_secret(name, self.schema),
            Some(table) => !self.is_shown(table, name),
        };
        // What looks like a key may be part of a value.
        let is_plain = self.table == Some("") && self.schema.iter().any(|it| it.name == name);
        self.is_secret.then_some(if is_plain { key.len() + 1 } else { 0 })
    }

    /// An unknown table hides what follows. A known one is only trusted if the line contains nothing else.
    fn header(&mut self, line: &str, header: &str) -> Option<usize> {
        let name = header.trim_start_matches('[');
        let name = first_part(&name[..name.find(']').unwrap_or(name.len())]);
        let table = self.schema.iter().find(|it| it.name == name && !name.is_empty());
        let is_known = table.is_some();
        self.table = table.filter(|it| !matches!(it.keys, Keys::Secret(_))).map(|it| it.name);
        self.is_secret = self.table.is_none();
        if self.table.is_some() {
            return None;
        }
        match line.find(']') {
            Some(end) if is_known => Some(end + 1).filter(|_| !line[end + 1..].trim().is_empty()),
            _ => Some(0),
        }
    }

    fn is_shown(&self, table: &str, key: &str) -> bool {
        self.schema.iter().find(|it| it.name == table).is_some_and(|it| match it.keys {
            Keys::Known(_) => {
                it.keys.get(key).is_some() || nearest(key, &it.keys.names().collect::<Vec<_>>()).is_some()
            }
            Keys::Free(_) => true,
            Keys::Secret(_) => false,
        })
    }
}

/// Returns `env` for `env."A".b`.
fn first_part(key: &str) -> &str {
    let key = key.trim();
    let quoted = |quote| key.strip_prefix(quote).and_then(|it| it.split(quote).next());
    quoted('"').or_else(|| quoted('\'')).unwrap_or_else(|| key.split('.').next().unwrap_or_default().trim())
}
