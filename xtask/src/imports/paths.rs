//! Finds the paths in a source file that start with `crate` or `super`, in imports and elsewhere.

/// A path, such as `["super", "b", "C"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: Vec<String>,
    /// Counted from 1.
    pub(super) line: usize,
}

/// What a file contains besides its tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) paths: Vec<Named>,
    /// Modules that only tests have, which are in files of their own.
    pub(super) test_modules: Vec<String>,
}

/// Reads a file as rustfmt formats it: a block ends with a brace as far to the right as its beginning.
pub(super) fn read(text: &str) -> Contents {
    let mut contents = Contents::default();
    let kept = without_tests(text, &mut contents.test_modules);
    let chars: Vec<char> = kept.chars().collect();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let begins_word = at == 0 || !is_word(chars[at - 1]);
        if chars[at] == '\n' {
            line += 1;
        }
        if begins_word && (starts_with(&chars[at..], "crate::") || starts_with(&chars[at..], "super::")) {
            let mut rest = Rest { chars: &chars[at..], at: 0 };
            let paths = rest.tree(&[]);
            contents.paths.extend(paths.into_iter().map(|path| Named { path, line }));
            line += chars[at..at + rest.at].iter().filter(|it| **it == '\n').count();
            at += rest.at.max(1);
        } else {
            at += 1;
        }
    }
    contents
}

/// Replaces comments, and what is compiled only for tests, by empty lines.
fn without_tests(text: &str, test_modules: &mut Vec<String>) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut skipping: Option<Skip> = None;
    for line in text.lines() {
        let code = line.trim();
        if let Some(skip) = &mut skipping {
            if skip.ends_with(line, test_modules) {
                skipping = None;
            }
        } else if code == "#[cfg(test)]" {
            skipping = Some(Skip::Item);
        } else if !code.starts_with("//") {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// What is skipped.
enum Skip {
    /// An item that has only its attributes so far.
    Item,
    /// Up to this line, or to a line that ends a statement.
    Block(String),
}

impl Skip {
    /// Whether the skipped item ends with this line.
    fn ends_with(&mut self, line: &str, test_modules: &mut Vec<String>) -> bool {
        match self {
            Self::Item if line.trim().starts_with("#[") => false,
            Self::Item => {
                let code = line.trim();
                let module = code.strip_suffix(';').and_then(|it| it.split_once("mod "));
                test_modules.extend(module.map(|(_, name)| name.to_owned()));
                let indent = &line[..line.len() - line.trim_start().len()];
                *self = Self::Block(format!("{indent}}}"));
                code.ends_with(';') || code.ends_with('}')
            }
            Self::Block(end) => line == end || line == format!("{end};"),
        }
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn starts_with(chars: &[char], text: &str) -> bool {
    text.chars().enumerate().all(|(at, char)| chars.get(at) == Some(&char))
}

/// The text from a path on.
struct Rest<'a> {
    chars: &'a [char],
    at: usize,
}

impl Rest<'_> {
    /// Reads a path that begins with `before`, or all paths of a group.
    fn tree(&mut self, before: &[String]) -> Vec<Vec<String>> {
        let mut path = before.to_vec();
        loop {
            self.skip_space();
            if self.peek() == Some('{') {
                self.at += 1;
                return self.group(&path);
            }
            let word = self.word();
            if word.is_empty() {
                return vec![path];
            }
            path.push(word);
            if !starts_with(&self.chars[self.at..], "::") {
                return vec![path];
            }
            self.at += 2;
        }
    }

    fn group(&mut self, before: &[String]) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return paths,
                Some('}') => {
                    self.at += 1;
                    return paths;
                }
                Some(char) if is_word(char) => {
                    paths.extend(self.tree(before));
                    self.rename();
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// Skips `as name`.
    fn rename(&mut self) {
        self.skip_space();
        if starts_with(&self.chars[self.at..], "as ") {
            self.at += 3;
            self.word();
        }
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
    }
}
