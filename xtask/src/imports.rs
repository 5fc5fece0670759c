//! Checks that modules form layers: no import circles except between a folder's own file and the files in it, and in the
//! crates that ARCHITECTURE.md draws, no import that points up.

mod circles;
mod levels;
mod modules;
mod paths;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail};
use xtask::step;

use circles::Circle;
use modules::{Module, Modules};

/// The crates whose levels ARCHITECTURE.md must draw.
const DRAWN: [&str; 3] = ["emperord", "frontd", "pyworker"];

/// An import of one module by another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Import {
    from: Module,
    to: Module,
    file: PathBuf,
    /// Counted from 1.
    line: usize,
}

/// The imports between the children of each folder: from one child to another, with an example.
type Edges<'a> = BTreeMap<Module, BTreeMap<(String, String), &'a Import>>;

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    if !arguments.is_empty() {
        bail!("`cargo xtask imports` takes no options, not {}", arguments.join(" "));
    }
    let root = xtask::root();
    let pictures = fs::read_to_string(root.join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    let (mut crates, mut files, mut faults) = (0, 0, Vec::new());
    for source in sources(root)? {
        let modules = Modules::read(&source).with_context(|| format!("read {}", source.display()))?;
        (crates, files) = (crates + 1, files + modules.files());
        let imports = modules.imports();
        let edges = edges(&imports);
        faults.extend(circles::find(&edges).iter().map(Circle::to_string));
        let name = source.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        match levels::read(&pictures, &name) {
            Some(levels) => {
                let top = edges.get(&Module::default());
                faults.extend(levels.faults(&name, &modules.children(&Module::default()), top));
            }
            None if DRAWN.contains(&&*name) => {
                faults.push(format!("ARCHITECTURE.md has no picture below the heading \"Inside {name}\""));
            }
            None => {}
        }
    }
    if !faults.is_empty() {
        bail!("{} faults in the imports\n\n{}", faults.len(), faults.join("\n\n"));
    }
    step::print_line("imports", &format!("{files} files of {crates} crates: no circles, none points up"));
    Ok(())
}

/// The `src` folders of all crates, and the folders of integration tests, sorted.
fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("tests"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        if folder.join("Cargo.toml").exists() && folder.join("src").is_dir() {
            found.push(folder.join("src"));
            let tests = folder.join("tests");
            let tests = if tests.is_dir() { entries(&tests)? } else { Vec::new() };
            found.extend(tests.into_iter().filter(|it| it.join("main.rs").exists()));
        }
        // Crates are at most one level below.
        folders.extend(entries(&folder)?.into_iter().filter(|it| it.join("Cargo.toml").exists()));
    }
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|it| Ok(it?.path())).collect::<io::Result<_>>();
    read().with_context(|| format!("read {}", folder.display()))
}

/// Assigns each import to the folder that both ends have in common. Imports between a folder's own file and the files in
/// it are omitted.
fn edges(imports: &[Import]) -> Edges<'_> {
    let mut edges = Edges::new();
    for import in imports {
        let common = import.from.common(&import.to);
        let (Some(from), Some(to)) = (import.from.child_of(&common), import.to.child_of(&common)) else {
            continue;
        };
        if from != to {
            edges.entry(common).or_default().entry((from, to)).or_insert(import);
        }
    }
    edges
}

impl Import {
    fn place(&self) -> String {
        let file = self.file.strip_prefix(xtask::root()).unwrap_or(&self.file);
        format!("{}:{}", file.display(), self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_counts_for_the_folder_that_both_ends_are_in() {
        let module = |text: &str| Module::parse(text);
        let import = |from: &str, to: &str| Import {
            from: module(from),
            to: module(to),
            file: PathBuf::new(),
            line: 1,
        };
        let imports = [
            import("a::b::c", "a::d::e"),
            import("a", "a::b"),
            import("a::b::c", "a"),
            import("a::b", "f"),
            import("a::b", "a::b"),
        ];
        let edges = edges(&imports);
        let found: Vec<_> = edges
            .iter()
            .flat_map(|(folder, edges)| edges.keys().map(move |(from, to)| format!("{folder}: {from} {to}")))
            .collect();
        assert_eq!(found, ["crate: a f", "crate::a: b d"]);
    }
}
