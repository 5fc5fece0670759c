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
                let to = self.resolve(from, &named.path);
                Import { from: from.clone(), to, file: file.clone(), line: named.line }
            };
            contents.paths.iter().map(import).collect()
        };
        self.files.iter().flat_map(imports_of).collect()
    }

    /// The module that a path is in.
    fn resolve(&self, from: &Module, path: &[String]) -> Module {
        let mut module = from.clone();
        for name in path {
            match name.as_str() {
                "crate" => module = Module::default(),
                "super" => module = module.parent(),
                "self" => {}
                _ if self.has(&module.child(name)) => module = module.child(name),
                _ => break,
            }
        }
        module
    }

    fn has(&self, module: &Module) -> bool {
        self.files.iter().any(|it| it.0 == *module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_resolved_to_modules() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        for (file, text) in [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "mod c;\nmod d;\n#[cfg(test)]\nmod tests;\nuse crate::b::Function;\n"),
            ("a/c.rs", "use super::d::X;\nuse super::super::b;\nuse super::Y;\n"),
            ("a/d.rs", ""),
            ("a/tests.rs", "use super::c;\n"),
            ("b.rs", "use crate::Root;\n"),
        ] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let modules = Modules::read(folder).unwrap();
        let found: Vec<String> =
            modules.imports().iter().map(|it| format!("{} {}", it.from, it.to)).collect();
        assert_eq!(
            found,
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
}
