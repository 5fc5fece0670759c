//! Generates the reference of a configuration file's keys, in Markdown.

use std::fmt::Write as _;

use config::schema::Default;
use config::{Entries, Key, Keys, Kind, Schema, Table, value};

/// Returns the heading, description, type and default of each key.
#[must_use]
pub fn keys(schema: Schema) -> String {
    let mut text = String::new();
    for table in schema {
        self::table(&mut text, table);
    }
    text
}

fn table(text: &mut String, table: &Table) {
    let (name, help) = (table.name, table.help);
    if !name.is_empty() {
        let _ = write!(text, "## `[{name}]`\n\n{help}\n\n");
    }
    let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
    match table.keys {
        Keys::Known(keys) => {
            for it in keys {
                key(text, &prefix, it);
            }
        }
        Keys::Free(it) | Keys::Secret(it) => entries(text, &it),
    }
}

fn key(text: &mut String, prefix: &str, key: &Key) {
    let Key { name, help, .. } = key;
    let _ = write!(text, "### `{prefix}{name}`\n\n{help}\n\n- Type: {}\n", kind(key.kind));
    let _ = match key.default {
        Default::Required => writeln!(text, "- Required"),
        Default::Value(value) => writeln!(text, "- Default: `{value}`"),
        Default::Varies(words) => writeln!(text, "- Default: {words}"),
        Default::None => writeln!(text, "- Default: none"),
    };
    text.push('\n');
}

fn entries(text: &mut String, entries: &Entries) {
    let _ = write!(text, "- Each key: {}\n- Each value: {}\n\n```toml\n", entries.key, kind(entries.value));
    for line in entries.example {
        let _ = writeln!(text, "{}", line.trim_start_matches("# "));
    }
    text.push_str("```\n\n");
}

/// Describes the type of a value.
#[must_use]
pub fn kind(kind: Kind) -> String {
    match kind {
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Text => "string".to_owned(),
        Kind::Path => "path; a relative one starts from the folder of this file".to_owned(),
        Kind::Choice(choices) => {
            choices.iter().map(|it| format!("`\"{it}\"`")).collect::<Vec<_>>().join(" or ")
        }
        Kind::Address => "IP address with a port".to_owned(),
        Kind::Texts => "string, or array of strings".to_owned(),
        Kind::Addresses => "IP address with a port, or array of them".to_owned(),
        Kind::Integer(min, i64::MAX) => format!("whole number, at least {min}"),
        Kind::Integer(min, max) => format!("whole number from {min} to {max}"),
        Kind::Duration(min, max) => {
            format!("duration from {} to {}", value::show_duration(min), value::show_duration(max))
        }
        Kind::Size(min, max) => format!("size from {} to {}", value::show_size(min), value::show_size(max)),
        Kind::Percent(min, max) => format!("percentage from `\"{min}%\"` to `\"{max}%\"`"),
        Kind::Switch(keys) => format!("`true`, `false`, or a table with {}", in_table(keys)),
        Kind::PathOrTable(keys) => format!("path, or a table with {}", in_table(keys)),
    }
}

fn in_table(keys: &[Key]) -> String {
    let key = |it: &Key| format!("`{}` ({}: {})", it.name, kind(it.kind), it.summary());
    keys.iter().map(key).collect::<Vec<_>>().join(", ")
}
