//! The limits in the reference are those of the parsers.

use std::fs;
use std::path::Path;

use config::{Document, EmperordConfig, FrontdConfig, Keys, Kind, Layout, Schema, Source};
use tempfile::TempDir;
use vassal::Vassal;

#[test]
fn of_an_app() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("app.py"), "").unwrap();
    let head = "domains = 'x.example'\ndirectory = '.'\n";
    let parse = |text: &str| Vassal::parse(&folder.path().join("x.toml"), &format!("{head}{text}")).map(drop);
    check(vassal::SCHEMA, parse);
}

#[test]
fn of_frontd() {
    let layout = Layout::under(Path::new("/r")).unwrap();
    let source = |text: &str| Source { path: layout.frontd_toml(), text: text.to_owned() };
    check(config::frontd::SCHEMA, |text| FrontdConfig::parse(source(text), &layout).map(drop));
}

#[test]
fn of_emperord() {
    let layout = Layout::under(Path::new("/r")).unwrap();
    let source = |text: &str| Source { path: layout.emperord_toml(), text: text.to_owned() };
    check(config::emperord::SCHEMA, |text| {
        EmperordConfig::parse(source(text), &layout, Path::new("/bin/workerd")).map(drop)
    });
}

fn check(schema: Schema, parse: impl Fn(&str) -> Result<(), config::Diagnostics>) {
    for table in schema {
        let Keys::Known(keys) = table.keys else { continue };
        for key in keys {
            let name = if table.name.is_empty() {
                key.name.to_owned()
            } else {
                format!("{}.{}", table.name, key.name)
            };
            for value in within(key.kind) {
                let read = parse(&format!("{name} = {value}"));
                assert!(read.is_ok(), "{name} = {value}: {}", read.unwrap_err());
            }
            for value in beyond(key.kind) {
                assert!(parse(&format!("{name} = {value}")).is_err(), "{name} = {value} was taken");
            }
        }
    }
}

fn within(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Boolean | Kind::Switch(_) => vec!["true".to_owned(), "false".to_owned()],
        Kind::Choice(choices) => choices.iter().map(|it| format!("'{it}'")).collect(),
        Kind::Address => vec!["'127.0.0.1:1'".to_owned(), "'[::]:65535'".to_owned()],
        Kind::Addresses => vec!["[]".to_owned(), "'[::1]:1'".to_owned(), "['0.0.0.0:1']".to_owned()],
        Kind::Integer(min, max) => vec![min.to_string(), max.to_string()],
        Kind::Duration(min, max) => [min, max].map(|it| format!("'{}ms'", it.as_millis())).into(),
        Kind::Size(min, max) => vec![min.to_string(), max.to_string()],
        Kind::Percent(min, max) => vec![format!("'{min}%'"), format!("'{max}%'")],
        // Other kinds have no limits, or depend on the file system.
        Kind::Text | Kind::Path | Kind::Texts | Kind::PathOrTable(_) => Vec::new(),
    }
}

fn beyond(kind: Kind) -> Vec<String> {
    let numbers = |min: i128, max: i128, quoted: &dyn Fn(i128) -> String| {
        let values = [min - 1, max + 1];
        values.into_iter().filter(|it| *it >= 0 && *it <= i128::from(i64::MAX)).map(quoted).collect()
    };
    match kind {
        Kind::Boolean | Kind::Switch(_) => vec!["'true'".to_owned(), "1".to_owned()],
        Kind::Choice(_) => vec!["'other'".to_owned(), "true".to_owned()],
        Kind::Address | Kind::Addresses => vec!["'here'".to_owned(), "80".to_owned()],
        Kind::Integer(min, max) => numbers(min.into(), max.into(), &|it| it.to_string()),
        Kind::Duration(min, max) => {
            let [min, max] = [min, max].map(|it| i128::try_from(it.as_millis()).unwrap());
            numbers(min, max, &|it| format!("'{it}ms'"))
        }
        Kind::Size(min, max) => numbers(min.into(), max.into(), &|it| it.to_string()),
        Kind::Percent(min, max) => numbers(min.into(), max.into(), &|it| format!("'{it}%'")),
        Kind::Text | Kind::Path | Kind::Texts | Kind::PathOrTable(_) => vec!["1".to_owned()],
    }
}

/// Error messages use the texts of the reference.
#[test]
fn a_wrong_value_is_reported_with_the_keys_description() {
    let layout = Layout::under(Path::new("/r")).unwrap();
    let source = Source { path: "/r/frontd.toml".into(), text: "shards = 0".to_owned() };
    let actual = FrontdConfig::parse(source, &layout).unwrap_err().to_string();
    let expected = "/r/frontd.toml:1:10: `shards` must be a whole number from 1 to 256, not 0: it sets the number of \
                    threads, each with its own accept loop";
    assert_eq!(actual, expected);
    let source = Source { path: "/r/x.toml".into(), text: String::new() };
    assert!(Document::parse(source, config::frontd::SCHEMA).is_ok());
}
