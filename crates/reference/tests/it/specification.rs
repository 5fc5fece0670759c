//! Every test and benchmark case that SPECIFICATION.md names exists.

use std::fs;
use std::path::{Path, PathBuf};

use reference::repository;

#[test]
fn each_promise_names_an_existing_test() {
    let text = fs::read_to_string(repository().join("SPECIFICATION.md")).unwrap();
    let names: Vec<_> =
        text.split('`').skip(1).step_by(2).filter(|it| it.contains("::") && !it.contains("NAME")).collect();
    assert!(names.len() > 40, "{} names", names.len());
    let missing: Vec<_> = names.into_iter().filter(|it| !exists(it)).collect();
    assert!(missing.is_empty(), "these don't exist: {missing:?}");
    let rows = text
        .lines()
        .filter(|it| it.starts_with('|') && !it.starts_with("|---") && !it.ends_with("enforced by |"));
    for row in rows {
        assert!(row.contains("::"), "names no test: {row}");
    }
}

fn exists(name: &str) -> bool {
    let (place, function) = name.rsplit_once("::").unwrap();
    let parts: Vec<_> = place.split("::").collect();
    match parts[..] {
        ["bench"] => is_case(function),
        ["tests", file] => has(&repository().join(format!("tests/tests/it/{file}.rs")), function),
        ["reference", file] => {
            has(&repository().join(format!("crates/reference/tests/it/{file}.rs")), function)
        }
        [package, ..] => {
            let source = repository().join("crates").join(package).join("src");
            files_of(&source, &parts[1..]).iter().any(|it| has(it, function))
        }
        [] => false,
    }
}

/// The file of a module. A module named `tests` may be inline, in the file of its parent.
fn files_of(source: &Path, modules: &[&str]) -> [PathBuf; 2] {
    let file = |modules: &[&str]| source.join(modules.join("/")).with_extension("rs");
    [file(modules), file(modules.strip_suffix(&["tests"]).unwrap_or(modules))]
}

fn has(file: &Path, function: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|it| it.contains(&format!("fn {function}(")))
}

fn is_case(name: &str) -> bool {
    let text = |file| fs::read_to_string(repository().join("xtask/bench/src").join(file)).unwrap();
    is_case_of(name, &text("cases.rs"), &text("app.rs"))
}

/// Names that contain an app's are formatted: `start-APP` and `APP-CONNECTIONS`.
fn is_case_of(name: &str, cases: &str, apps: &str) -> bool {
    let is_app = |app: &str| apps.contains(&format!("\"{app}\""));
    let is_number = |text: &str| text.parse::<usize>().is_ok();
    match (name.strip_prefix("start-"), name.rsplit_once('-')) {
        (Some(app), _) => cases.contains("\"start-{}\"") && is_app(app),
        (None, Some((app, connections))) if is_number(connections) => {
            cases.contains("\"{}-{connections}\"") && is_app(app)
        }
        _ => cases.contains(&format!("\"{name}\"")),
    }
}

#[test]
fn a_case_is_more_than_the_name_of_an_app() {
    let (cases, apps) = (r#""reload" "start-{}" "{}-{connections}""#, r#""bare" "flask""#);
    for name in ["reload", "start-flask", "bare-64"] {
        assert!(is_case_of(name, cases, apps), "{name}");
        assert!(!is_case_of(name, "", apps) && !is_case_of(name, "", ""), "{name}");
    }
    for name in ["flask", "start-django", "start-64", "flask-", "reload-64", "start-flask-64"] {
        assert!(!is_case_of(name, cases, apps), "{name}");
    }
}
