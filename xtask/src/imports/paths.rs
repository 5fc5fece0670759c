//! Finds the paths in a source file that start with `crate` or `super`, in imports and elsewhere, and the names that
//! it imports.

mod code;
mod tree;

pub(super) use tree::Leaf;
use tree::Tree;

/// A path, such as `["super", "b", "C"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: Vec<String>,
    /// Counted from 1.
    pub(super) line: usize,
    /// The `mod` blocks in the file that it is in, the outermost one first.
    pub(super) blocks: Vec<String>,
}

/// What a file contains besides its tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) paths: Vec<Named>,
    /// What the file imports or re-exports outside of `mod` blocks and functions.
    pub(super) uses: Vec<Leaf>,
    /// Modules that only tests have, which are in files of their own.
    pub(super) test_modules: Vec<String>,
}

/// Reads a file as rustfmt formats it: a block ends with a brace as far to the right as its beginning.
pub(super) fn read(text: &str) -> Contents {
    let mut contents = Contents::default();
    let kept = code::without_tests(text, &mut contents.test_modules);
    let blocks = code::blocks(&kept);
    let chars: Vec<char> = kept.chars().collect();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let begin = Begin::at(&chars, at);
        let end = if let Some(begin) = begin {
            let from = if begin == Begin::Path { at } else { at + USE.len() };
            let mut tree = Tree::new(&chars[from..]);
            contents.add(begin, tree.leaves(), line, &blocks[line - 1]);
            from + tree.read().max(1)
        } else {
            at + 1
        };
        line += chars[at..end].iter().filter(|it| **it == '\n').count();
        at = end;
    }
    contents
}

impl Contents {
    fn add(&mut self, begin: Begin, leaves: Vec<Leaf>, line: usize, blocks: &[String]) {
        let is_outside = |it: &&Leaf| it.path.first().is_some_and(|it| it == "crate" || it == "super");
        let named = leaves.iter().filter(is_outside).map(|it| it.path.clone());
        self.paths.extend(named.map(|path| Named { path, line, blocks: blocks.to_vec() }));
        if begin == Begin::Use {
            self.uses.extend(leaves);
        }
    }
}

const USE: &str = "use ";

/// What begins at a place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Path,
    /// A `use` that isn't in a block.
    Use,
}

impl Begin {
    fn at(chars: &[char], at: usize) -> Option<Self> {
        let (before, rest) = chars.split_at(at);
        if before.last().is_some_and(|it| tree::is_word(*it)) {
            return None;
        }
        if tree::starts_with(rest, "crate::") || tree::starts_with(rest, "super::") {
            return Some(Self::Path);
        }
        let line = before.rsplit(|it| *it == '\n').next().unwrap_or_default();
        let is_outermost = line.is_empty() || tree::starts_with(line, "pub");
        (tree::starts_with(rest, USE) && is_outermost).then_some(Self::Use)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_file() {
        let text = "//! See [`crate::ignored`].
use std::fs;
use super::a;
pub(crate) use crate::b::{self, C as D, e::{F, G}};
use crate::{
    h::I,
    j,
};

#[cfg(test)]
mod tests;
#[cfg(test)]
use crate::ignored;

fn k() {
    super::super::l::m(crate::n::<u8>());
}

#[cfg(test)]
mod more {
    use crate::ignored;
}

fn o() -> crate::P {}
";
        let found = read(text);
        let paths: Vec<String> =
            found.paths.iter().map(|it| format!("{} {}", it.line, it.path.join("::"))).collect();
        assert_eq!(
            paths,
            [
                "3 super::a",
                "4 crate::b::self",
                "4 crate::b::C",
                "4 crate::b::e::F",
                "4 crate::b::e::G",
                "5 crate::h::I",
                "5 crate::j",
                "16 super::super::l::m",
                "16 crate::n",
                "24 crate::P",
            ]
        );
        assert_eq!(found.test_modules, ["tests"]);
        let uses: Vec<&str> = found.uses.iter().map(Leaf::name).collect();
        assert_eq!(uses, ["fs", "a", "b", "D", "F", "G", "I", "j"]);
    }

    #[test]
    fn imports_of_blocks_are_told_apart() {
        let text = "use self::a::B;\nmod c {\n    use super::d::E;\n}\nfn f() {\n    use crate::g;\n}\n";
        let found = read(text);
        let paths: Vec<String> =
            found.paths.iter().map(|it| format!("{:?} {}", it.blocks, it.path.join("::"))).collect();
        assert_eq!(paths, ["[\"c\"] super::d::E", "[] crate::g"]);
        assert_eq!(found.uses.iter().map(Leaf::name).collect::<Vec<_>>(), ["B"]);
    }
}
