//! A page of the documentation that is generated, completely or in part.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Returns the root folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("this crate is two folders below the repository").to_owned()
}

/// A file with generated text.
#[derive(Debug)]
pub struct Page {
    name: &'static str,
    path: PathBuf,
}

impl Page {
    /// Returns the page at a path relative to the repository.
    #[must_use]
    pub fn of(name: &'static str) -> Self {
        Self { name, path: repository().join(name) }
    }

    /// Checks that the page consists of this text, or writes it.
    ///
    /// # Panics
    /// If the page differs, or can't be read or written.
    #[track_caller]
    pub fn is(&self, text: &str) {
        let old = fs::read_to_string(&self.path).unwrap_or_default();
        self.settle(&old, text);
    }

    /// Checks that the page has this text between `<!-- generated: NAME -->` and `<!-- end -->`, or writes
    /// it.
    ///
    /// # Panics
    /// If the text differs, the page has no such part, or it can't be read or written.
    #[track_caller]
    pub fn has(&self, part: &str, text: &str) {
        let old =
            fs::read_to_string(&self.path).unwrap_or_else(|error| panic!("read {}: {error}", self.name));
        let begin = format!("<!-- generated: {part} -->\n");
        let (before, rest) =
            old.split_once(&begin).unwrap_or_else(|| panic!("{} has no part {part}", self.name));
        let (_, after) =
            rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{} doesn't end {part}", self.name));
        self.settle(&old, &format!("{before}{begin}\n{}\n\n<!-- end -->{after}", text.trim()));
    }

    #[track_caller]
    fn settle(&self, old: &str, new: &str) {
        if old == new {
            return;
        }
        if env::var_os("IMPERIUM_DOCS").is_some_and(|it| it == "write") {
            self.write(new);
            return;
        }
        let line = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
        let of = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
        panic!(
            "{} is out of date: run `cargo xtask docs --write`\nline {} says: {}\nthe code says: {}",
            self.name,
            line + 1,
            of(old),
            of(new)
        );
    }

    fn write(&self, text: &str) {
        let folder = self.path.parent().expect("a page is in a folder");
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&self.path, text));
        written.unwrap_or_else(|error| panic!("write {}: {error}", self.name));
    }
}
