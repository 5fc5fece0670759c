//! The modules of a crate, as its files show them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use super::Import;
use super::paths::{self, Contents};

/// A module's path in its crate. The root has an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Module(Vec<String>);

impl Module {
    /// Such as `a::b`.
    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split("::").map(str::to_owned).collect())
    }

    fn child(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The innermost module that both are, or are in.
    pub(super) fn common(&self, other: &Self) -> Self {
        let shared = self.0.iter().zip(&other.0).take_while(|(one, other)| one == other);
        Self(shared.map(|(one, _)| one.clone()).collect())
    }

    /// The child of `folder` that this module is, or is in. None if it is `folder`, or outside.
    pub(super) fn child_of(&self, folder: &Self) -> Option<String> {
        self.0.strip_prefix(&folder.0[..])?.first().cloned()
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("crate")?;
        self.0.iter().try_for_each(|name| write!(f, "::{name}"))
    }
}

/// How many modules a name may be re-exported by.
const LONGEST_CHAIN: usize = 8;

/// The modules of a crate without those of its tests.
#[derive(Debug, Default)]
pub(super) struct Modules {
    files: Vec<(Module, PathBuf, Contents)>,
}

impl Modules {
    /// Reads all files below a `src` folder.
    pub(super) fn read(source: &Path) -> io::Result<Self> {
        let mut modules = Self::default();
        modules.read_folder(source, &Module::default())?;
        modules.remove_tests();
        modules.files.sort_by(|one, other| one.1.cmp(&other.1));
        Ok(modules)
    }

    fn read_folder(&mut self, folder: &Path, module: &Module) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_stem().and_then(|it| it.to_str()).map(str::to_owned) else { continue };
            if path.is_dir() {
                self.read_folder(&path, &module.child(&name))?;
            } else if path.extension().is_some_and(|it| it == "rs") {
                let is_root = module.0.is_empty() && matches!(name.as_str(), "lib" | "main");
                let module = if is_root { module.clone() } else { module.child(&name) };
                let contents = paths::read(&fs::read_to_string(&path)?);
                self.files.push((module, path, contents));
            }
        }
        Ok(())
    }

    fn remove_tests(&mut self) {
        let tests: Vec<Module> = self
            .files
            .iter()
            .flat_map(|(module, _, contents)| contents.test_modules.iter().map(|it| module.child(it)))
            .collect();
        self.files.retain(|(module, ..)| !tests.iter().any(|it| module.0.starts_with(&it.0)));
    }

    /// The number of files.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// The names of a module's children, each with its first file.
    pub(super) fn children(&self, of: &Module) -> BTreeMap<String, PathBuf> {
        let child = |(module, path, _): &(Module, PathBuf, _)| Some((module.child_of(of)?, path.clone()));
        self.files.iter().rev().filter_map(child).collect()
    }

    /// All imports of one module by another.
    pub(super) fn imports(&self) -> Vec<Import> {
        let imports_of = |(from, file, contents): &(Module, PathBuf, Contents)| -> Vec<Import> {
            let import = |named: &paths::Named| {
                let from = named.blocks.iter().fold(from.clone(), |module, name| module.child(name));
                let to = self.resolve(&from, &named.path, LONGEST_CHAIN);
                Import { from, to, file: file.clone(), line: named.line }
            };
            contents.paths.iter().map(import).collect()
        };
        self.files.iter().flat_map(imports_of).collect()
    }

    /// The module that a path is in. A name that a folder's own file only imports or re-exports is in the module that
    /// it comes from, if the path is in that folder: it doesn't count as an import of the folder's own file.
    fn resolve(&self, from: &Module, path: &[String], most: usize) -> Module {
        let mut module = from.clone();
        for name in path {
            match name.as_str() {
                "crate" => module = Module::default(),
                "super" => module = module.parent(),
                "self" => {}
                _ if self.has(&module.child(name)) => module = module.child(name),
                _ if module != *from && from.0.starts_with(&module.0) && most > 0 => {
                    let origin = self.uses(&module).find(|it| it.name() == name);
                    return origin.map_or(module.clone(), |it| self.resolve(&module, &it.path, most - 1));
                }
                _ => break,
            }
        }
        module
    }

    fn uses(&self, of: &Module) -> impl Iterator<Item = &paths::Leaf> {
        self.files.iter().filter(move |(module, ..)| module == of).flat_map(|(_, _, contents)| &contents.uses)
    }

    fn has(&self, module: &Module) -> bool {
        self.files.iter().any(|it| it.0 == *module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> Modules {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Modules::read(root.path()).unwrap()
    }

    fn imports(of: &Modules) -> Vec<String> {
        of.imports().iter().map(|it| format!("{} {}", it.from, it.to)).collect()
    }

    #[test]
    fn imports_are_resolved_to_modules() {
        let modules = modules(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "mod c;\nmod d;\n#[cfg(test)]\nmod tests;\nuse crate::b::Function;\n"),
            ("a/c.rs", "use super::d::X;\nuse super::super::b;\nuse super::Y;\n"),
            ("a/d.rs", ""),
            ("a/tests.rs", "use super::c;\n"),
            ("b.rs", "use crate::Root;\n"),
        ]);
        assert_eq!(
            imports(&modules),
            [
                "crate::a::c crate::a::d",
                "crate::a::c crate::b",
                "crate::a::c crate::a",
                "crate::a crate::b",
                "crate::b crate"
            ]
        );
        assert_eq!(modules.children(&Module::default()).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    }
    #[test]
    fn a_name_that_the_folder_imports_is_resolved_to_its_origin() {
        let modules = modules(&[
            ("lib.rs", "mod a;\nmod b;\npub use a::X;\n"),
            ("a.rs", "mod c;\nmod d;\npub(crate) use self::c::{Inner as X, f};\nuse crate::b::Y;\n"),
            ("a/c.rs", "use super::Own;\nfn g() {\n    super::f();\n}\n"),
            ("a/d.rs", "use super::{X, Y};\n"),
            ("b.rs", "use crate::X;\nuse crate::a::X;\n"),
        ]);
        assert_eq!(
            imports(&modules),
            [
                "crate::a::c crate::a",
                "crate::a::c crate::a::c",
                "crate::a::d crate::a::c",
                "crate::a::d crate::b",
                "crate::a crate::b",
                "crate::b crate::a",
                "crate::b crate::a",
            ]
        );
    }

    #[test]
    fn paths_in_a_block_and_in_macros() {
        let modules = modules(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "mod block {\n    use super::c;\n    use super::super::b;\n}\nmod c;\n"),
            ("a/c.rs", "macro_rules! m {\n    () => {\n        $crate::b::f()\n    };\n}\n"),
            ("b.rs", ""),
        ]);
        let expected = ["crate::a::c crate::b", "crate::a::block crate::a::c", "crate::a::block crate::b"];
        assert_eq!(imports(&modules), expected);
    }
}
