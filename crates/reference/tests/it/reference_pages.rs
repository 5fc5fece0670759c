//! Generated pages and examples are up to date, and links aren't broken.

use std::fs;
use std::path::{Path, PathBuf};

use config::Schema;
use reference::{Page, badge, example, json_schema, keys, links, repository};

const APP: &[&str] = &[
    "One app: /etc/imperium/vassals/blog.toml. The name of the file is the name of the app: blog.",
    "emperord reads the file as soon as it is written; `touch` reloads the app. Relative paths start from this file's \
     folder. A `#` that is followed by a letter comments out a key, and shows its default.",
];

const FRONTD: &[&str] = &[
    "The configuration of frontd: /etc/imperium/frontd.toml. Every key may be omitted, and so may the file.",
    "frontd reads it when it starts, and on a reload (`systemctl reload 'frontd@*'`, SIGHUP). A reload of a file with a \
     mistake changes nothing. These keys need a restart, and the log names those that have changed: `http`, `https`, \
     `admin`, `shards`, `spool`, `state`, `emperord`, `tls.development`, `limits.send_*` and `limits.spool*`. The other \
     keys of `[limits]` apply to new connections.",
    "Relative paths start from this file's folder. A `#` that is followed by a letter comments out a key, and shows its \
     default.",
];

const EMPERORD: &[&str] = &[
    "The configuration of emperord: /etc/imperium/emperord.toml. Every key may be omitted, and so may the file.",
    "emperord reads it only when it starts. Relative paths start from this file's folder. A `#` that is followed by a \
     letter comments out a key, and shows its default.",
];

const FILES: &[(&str, &str, &[&str], Schema)] = &[
    ("app", "blog", APP, vassal::SCHEMA),
    ("frontd", "frontd", FRONTD, config::frontd::SCHEMA),
    ("emperord", "emperord", EMPERORD, config::emperord::SCHEMA),
];

#[test]
fn references_of_files() {
    for (name, _, _, schema) in FILES {
        let page: &'static str = format!("docs/reference/{name}.md").leak();
        Page::of(page).has("keys", &keys(schema));
    }
}

#[test]
fn schemas_of_files() {
    for (name, _, _, schema) in FILES {
        let title = match *name {
            "app" => "Imperium: the file of an app".to_owned(),
            name => format!("Imperium: {name}.toml"),
        };
        Page::of(format!("docs/schema/{name}.json").leak()).is(&json_schema(&title, schema));
    }
}

#[test]
fn examples_of_files() {
    for (_, name, head, schema) in FILES {
        Page::of(format!("deploy/examples/{name}.toml").leak()).is(&example(head, schema));
    }
}

/// What the README's badges claim is what Cargo.toml says.
#[test]
fn badges() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let value = |key: &str| {
        let line = manifest.lines().find_map(|it| it.strip_prefix(&format!("{key} = \""))).unwrap();
        line.trim_end_matches('"').to_owned()
    };
    // The oldest CPython of the stable ABI that pyworker is built against.
    let (_, python) = manifest.split_once("abi3-py3").unwrap();
    let minor: String = python.chars().take_while(char::is_ascii_digit).collect();
    for (name, label, value, color) in [
        ("license", "license", value("license"), "#2457c5"),
        ("rust", "Rust", format!("{} or newer", value("rust-version")), "#9a3412"),
        ("python", "Python", format!("3.{minor} or newer"), "#1d6f42"),
        ("platform", "Linux", "x86-64, aarch64".to_owned(), "#57606a"),
    ] {
        Page::of(format!("docs/images/badges/{name}.svg").leak()).is(&badge(label, &value, color));
    }
}

#[test]
fn no_link_is_broken() {
    let files = markdown(&repository());
    assert!(files.len() > 10, "{files:?}");
    let broken = links::broken(&files);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_book_has_every_page() {
    let docs = repository().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for page in markdown(&docs) {
        let page = page.strip_prefix(&docs).unwrap().to_str().unwrap();
        assert!(
            page == "SUMMARY.md" || summary.contains(&format!("]({page})")),
            "{page} is not in SUMMARY.md"
        );
    }
}

/// Returns all published Markdown files below a folder.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !["target", "tests", "corpus"].contains(&&*name) {
            files.extend(markdown(&path));
        } else if name.ends_with(".md") {
            files.push(path);
        }
    }
    files.sort();
    files
}
