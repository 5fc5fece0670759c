//! The exact diagnostics of invalid files.

use super::*;
use crate::schema::{Entries, Kind};

const ENTRIES: Entries = Entries { key: "name", pattern: "", value: Kind::Text, example: &[] };

const SCHEMA: Schema = &[
    Table::root(&[
        Key::new("app", Kind::Text, "The app"),
        Key::new("hosts", Kind::Texts, "Its hosts"),
        Key::new("workers", Kind::Integer(1, 9), "How many processes run it. More use more memory."),
    ]),
    Table::free("env", "", ENTRIES),
    Table::new("queue", "", &[Key::new("size", Kind::Integer(0, 9), "How many requests may wait")]),
];

/// Reads everything in the schema.
fn read(text: &str) -> Result<(), Diagnostics> {
    let source = Source { path: "/etc/a.toml".into(), text: text.to_owned() };
    let mut file = Document::parse(source, SCHEMA)?;
    let app = file.required("app", "app = \"x\"", |it| value::text(it).map(str::to_owned));
    let hosts = file.required_list("hosts", "hosts = [\"x\"]", |it| Ok(it.to_owned()));
    file.optional("workers", value::integer::<u8>(1..=9));
    file.optional("queue.size", value::integer::<u8>(0..=9));
    file.entries("env", |key| Ok(key.to_owned()), |it| value::text(it).map(str::to_owned));
    let both = app.zip(hosts).map(|_| ());
    file.finish(both)
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let message = read(text).err().map(|it| it.to_string()).unwrap_or_default();
    let expected: Vec<_> = expected.iter().map(|line| format!("/etc/a.toml:{line}")).collect();
    assert_eq!(message, expected.join("\n"));
}

/// Checks `text` below the required keys, which take up two lines.
#[track_caller]
fn check_rest(text: &str, expected: &[&str]) {
    check(&format!("app = 'x'\nhosts = ['x']\n{text}"), expected);
}

#[test]
fn right_files() {
    check_rest("", &[]);
    check_rest("workers = 3\n[queue]\nsize = 0\n[env]\nA = 'b'\n\"a.b\" = 'c'", &[]);
    check_rest("queue.size = 3\nenv = { A = 'b' }", &[]);
    check("hosts = 'x'\napp = 'x'", &[]);
}

#[test]
fn unknown_keys() {
    check_rest("wokers = 3", &["3:1: unknown key `wokers`: did you mean `workers`?"]);
    check_rest(
        "procs = 3",
        &["3:1: unknown key `procs`: the keys are `app`, `hosts`, `workers`, `env`, `queue`"],
    );
    check_rest("[queu]\nsize = 1", &["3:2: unknown key `queu`: did you mean `queue`?"]);
    check_rest("[queue]\nsizes = 1", &["4:1: unknown key `sizes` in `[queue]`: did you mean `size`?"]);
    check_rest("queue = { depth = 1 }", &["3:11: unknown key `depth` in `[queue]`: the keys are `size`"]);
    check_rest(
        "[[queue]]\nsize = 1",
        &["3:1: `queue` must be a table: write [queue], and its keys in the lines below"],
    );
    check_rest(
        "queue = 1",
        &["3:9: `queue` must be a table: write [queue], and its keys in the lines below"],
    );
}

#[test]
fn keys_of_another_table() {
    check_rest("size = 1", &["3:1: unknown key `size`: it belongs in `[queue]`"]);
    let top = "move it to the top of the file, above the first `[`";
    check_rest("[queue]\nworkers = 2", &[&format!("4:1: unknown key `workers` in `[queue]`: {top}")]);
    check_rest(
        "[env]\nworkers = 2",
        &[&format!("4:11: `env.workers` must be a string, not an integer: {top}")],
    );
    check("hosts = ['x']\n[env]\napp = 'x'", &[&format!("3:1: `app` is in `[env]`: {top}")]);
    check("app = 'x'\n[queue]\nhosts = 'x'", &[&format!("3:1: unknown key `hosts` in `[queue]`: {top}")]);
}

#[test]
fn missing_keys() {
    check(
        "",
        &["1:1: `app` is missing: write app = \"x\"", "1:1: `hosts` is missing: write hosts = [\"x\"]"],
    );
    check("app = 'x'\nhosts = []", &["2:9: `hosts` must have at least one element: write hosts = [\"x\"]"]);
}

#[test]
fn all_errors_in_the_order_of_lines() {
    let text = "workers = 0\nhosts = ['a', 1, 'b', true]\n[queue]\nsze = 3\n[env]\nA = 1";
    let message = [
        "1:1: `app` is missing: write app = \"x\"",
        "1:11: `workers` must be a whole number from 1 to 9, not 0: it sets how many processes run it",
        "2:15: `hosts` must be a string, not an integer: write \"1\"",
        "2:23: `hosts` must be a string, not a boolean: write \"true\"",
        "4:1: unknown key `sze` in `[queue]`: did you mean `size`?",
        "6:5: `env.A` must be a string, not an integer: write \"1\"",
    ];
    check(text, &message);
}

#[test]
fn syntax_errors() {
    check(
        "app = blog.wsgi:app",
        &["1:7: `blog.wsgi:app` isn't a value: if it is a string, write \"blog.wsgi:app\""],
    );
    check("app =", &["1:6: the value is missing"]);
    check("app 'x'", &["1:5: the key has no value: write `key = value`"]);
    check("app: 'x'", &["1:6: the key has no value: write `key = value`"]);
    check("app = 'x'\napp = 'y'", &["2:1: `app` is set a second time here: keep one of the two"]);
    check("[env]\n[queue]\n[env]", &["3:2: `env` is set a second time here: keep one of the two"]);
    check("[queue\nsize = 1", &["1:7: unclosed table: expected `]`"]);
    check("app = \"x", &["1:9: invalid basic string: expected `\"`"]);
    check("hosts = ['x',", &["1:14: unclosed array: expected `]`"]);
    check("workers = 01", &["1:11: unexpected leading zero"]);
    check("app = True", &["1:7: invalid boolean: expected `true`"]);
    check("app = 'x' # \u{0}", &["1:13: invalid comment character: expected printable characters"]);
}

#[test]
fn a_byte_order_mark_is_no_error() {
    check("\u{feff}app = 'x'\nhosts = ['x']", &[]);
    check("\u{feff}ap = 'x'\napp='x'\nhosts = ['x']", &["1:1: unknown key `ap`: did you mean `app`?"]);
}

#[test]
fn windows_line_ends() {
    check(
        "app = 'x'\r\nhosts = ['x']\r\n[queue]\r\n  sze = 1\r\n",
        &["4:3: unknown key `sze` in `[queue]`: did you mean `size`?"],
    );
}

#[test]
fn columns_count_characters() {
    check_rest("env = { 'äöü' = 1 }", &["3:17: `env.äöü` must be a string, not an integer: write \"1\""]);
}

#[test]
fn diagnostics_are_bounded() {
    let many: String = (0..40_000).map(|it| format!("k{it} = 1\n")).collect();
    assert_eq!(read(&many).unwrap_err().problems().len(), MAX_PROBLEMS);

    let long = format!("{} = {:?}\n", "k".repeat(400_000), "v".repeat(400_000));
    let message = read(&format!("app = 'x'\nhosts = ['x']\n{long}\n[env]\n{long}")).unwrap_err().to_string();
    assert!(
        message.starts_with("/etc/a.toml:3:1: unknown key `kkk")
            && message.ends_with("k…: the keys are `app`, `hosts`, `workers`, `env`, `queue`"),
        "{message}"
    );
}
