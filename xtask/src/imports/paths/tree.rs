//! Reads a path, or a tree of paths in braces.

/// One path of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::imports) struct Leaf {
    pub(in crate::imports) path: Vec<String>,
    /// After `as`.
    rename: Option<String>,
}

impl Leaf {
    /// The name that an import makes known. Empty for `*`.
    pub(in crate::imports) fn name(&self) -> &str {
        let named = || self.path.iter().rev().find(|it| *it != "self");
        self.rename.as_ref().or_else(named).map_or("", String::as_str)
    }
}

/// The text from the beginning of a tree on.
pub(super) struct Tree<'a> {
    chars: &'a [char],
    at: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(chars: &'a [char]) -> Self {
        Self { chars, at: 0 }
    }

    /// How many characters were read.
    pub(super) fn read(&self) -> usize {
        self.at
    }

    /// Reads one path, or all paths of a group.
    pub(super) fn leaves(&mut self) -> Vec<Leaf> {
        self.leaves_below(&[])
    }

    fn leaves_below(&mut self, before: &[String]) -> Vec<Leaf> {
        let mut path = before.to_vec();
        loop {
            self.skip_space();
            if self.peek() == Some('{') {
                self.at += 1;
                return self.group(&path);
            }
            let word = self.word();
            if word.is_empty() {
                let rename = (self.peek() == Some('*')).then(String::new);
                return vec![Leaf { path, rename }];
            }
            path.push(word);
            if !starts_with(&self.chars[self.at..], "::") {
                return vec![Leaf { path, rename: self.rename() }];
            }
            self.at += 2;
        }
    }

    fn group(&mut self, before: &[String]) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return leaves,
                Some('}') => {
                    self.at += 1;
                    return leaves;
                }
                Some(char) if is_word(char) => leaves.extend(self.leaves_below(before)),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Reads `as name`.
    fn rename(&mut self) -> Option<String> {
        let begin = self.at;
        self.skip_space();
        if !starts_with(&self.chars[self.at..], "as ") {
            self.at = begin;
            return None;
        }
        self.at += 3;
        Some(self.word())
    }

    fn word(&mut self) -> String {
        let begin = self.at;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        self.chars[begin..self.at].iter().collect()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }
}

/// Whether it is part of an identifier.
pub(super) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

pub(super) fn starts_with(chars: &[char], text: &str) -> bool {
    text.chars().enumerate().all(|(at, char)| chars.get(at) == Some(&char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_imports() {
        let chars: Vec<char> = "a::{self, B, c::D as E, f::{self as g}, h::*};".chars().collect();
        let leaves = Tree::new(&chars).leaves();
        let found: Vec<String> =
            leaves.iter().map(|it| format!("{} {}", it.name(), it.path.join("::"))).collect();
        assert_eq!(found, ["a a::self", "B a::B", "E a::c::D", "g a::f::self", " a::h"]);
    }
}
