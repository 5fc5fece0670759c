//! Generates the annotated example of a configuration file.

use std::fmt::Write as _;

use config::schema::{Default, Example};
use config::{Key, Keys, Schema, Table};

/// The line width.
const WIDTH: usize = 118;

/// Returns a file with every key, each with its description above it. `head` introduces the file. If the
/// default of a commented-out key is shown, there is no space after its `#`.
#[must_use]
pub fn example(head: &[&str], schema: Schema) -> String {
    let mut text = String::new();
    for (at, paragraph) in head.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "#\n" });
        comment(&mut text, paragraph);
    }
    for it in schema {
        table(&mut text, it);
    }
    text
}

fn table(text: &mut String, table: &Table) {
    if !table.name.is_empty() {
        text.push('\n');
        comment(text, table.help);
        let mark = if is_commented(table) { "# " } else { "" };
        let _ = writeln!(text, "{mark}[{}]", table.name);
    }
    match table.keys {
        Keys::Known(keys) => {
            for (at, it) in keys.iter().enumerate() {
                text.push_str(if at == 0 && !table.name.is_empty() { "" } else { "\n" });
                key(text, it);
            }
        }
        Keys::Free(entries) | Keys::Secret(entries) => {
            for line in entries.example {
                let _ = writeln!(text, "{line}");
            }
        }
    }
}

/// Whether all entries of a table are examples, so the table's header is commented out too.
fn is_commented(table: &Table) -> bool {
    match table.keys {
        Keys::Known(_) => false,
        Keys::Free(entries) | Keys::Secret(entries) => entries.example.iter().all(|it| it.starts_with('#')),
    }
}

fn key(text: &mut String, key: &Key) {
    let help = match key.default {
        Default::Varies(words) => format!("{} The default is {words}.", key.help),
        _ => key.help.to_owned(),
    };
    comment(text, &help);
    let name = key.name;
    let _ = match (key.example, key.default) {
        (Some(Example::Set(value)), _) => writeln!(text, "{name} = {value}"),
        (Some(Example::Commented(value)), _) => writeln!(text, "# {name} = {value}"),
        (None, Default::Value(value)) => writeln!(text, "#{name} = {value}"),
        (None, _) => writeln!(text, "# {name} ="),
    };
}

fn comment(text: &mut String, paragraph: &str) {
    let mut line = String::from("#");
    for word in paragraph.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    if line.len() > 1 {
        let _ = writeln!(text, "{line}");
    }
}
