//! docs/environment.md lists exactly the variables that the programs read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reference::repository;

/// What the standard library reads for a program.
const BY_CALL: [(&str, &str); 3] =
    [("env::home_dir(", "HOME"), ("env::temp_dir", "TMPDIR"), ("Backtrace::capture(", "RUST_BACKTRACE")];
/// What precedes the name of a variable in the code.
const READS: [&str; 3] = ["env::var(\"", "env::var_os(\"", "env = \""];
/// Our own are also named by constants.
const OWN: &str = "\"IMPERIUM_";
/// Read when the programs are compiled.
const NOT_AT_RUN_TIME: [&str; 1] = ["IMPERIUM_VERSION"];

#[test]
fn the_page_lists_what_the_programs_read() {
    let (read, listed) = (read(), listed());
    let missing: Vec<_> = read.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/environment.md doesn't list {missing:?}");
    let unread: Vec<_> = listed.difference(&read).collect();
    assert!(unread.is_empty(), "docs/environment.md lists {unread:?}, which no program reads");
}

/// The variables of the first column of each table.
fn listed() -> BTreeSet<String> {
    let page = fs::read_to_string(repository().join("docs/environment.md")).unwrap();
    let cells = page.lines().filter_map(|it| it.strip_prefix("| `")?.split(" | ").next());
    cells.flat_map(|it| it.split(['`', ',', ' ']).filter(|it| is_name(it)).map(str::to_owned)).collect()
}

fn read() -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    for file in sources(&repository().join("crates")) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for before in READS {
            read.extend(names_after(text, before));
        }
        read.extend(names_after(text, OWN).map(|it| format!("IMPERIUM_{it}")));
        read.extend(
            BY_CALL.iter().filter(|(call, _)| text.contains(call)).map(|(_, name)| (*name).to_owned()),
        );
    }
    read.retain(|it| !NOT_AT_RUN_TIME.contains(&it.as_str()));
    assert!(read.len() > 10, "the sources are somewhere else: {read:?}");
    read
}

fn names_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split(before)
        .skip(1)
        .filter_map(|it| Some(it.split_once('"')?.0.to_owned()))
        .filter(|it| is_name(it))
}

fn is_name(text: &str) -> bool {
    let is_part = |it: u8| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_';
    text.bytes().all(is_part) && text.len() > 2
}

/// The files of the programs, without their tests and without this crate.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_test =
            ["tests", "tests.rs", "testing.rs", "build.rs", "reference"].iter().any(|it| name == *it);
        match (is_test, path.is_dir()) {
            (true, _) => {}
            (false, true) => found.extend(sources(&path)),
            (false, false) if path.extension().is_some_and(|it| it == "rs") => found.push(path),
            (false, false) => {}
        }
    }
    found
}
