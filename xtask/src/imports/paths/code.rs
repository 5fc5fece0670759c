//! Tells the code of a source file from its tests and comments.

/// Replaces comments, and what is compiled only for tests, by empty lines.
pub(super) fn without_tests(text: &str, test_modules: &mut Vec<String>) -> String {
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
    /// Up to a closing bracket with this indentation.
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
                *self = Self::Block(indent.to_owned());
                code.ends_with([';', '}', ','])
            }
            Self::Block(indent) => {
                let end = line.strip_prefix(indent.as_str()).filter(|it| it.starts_with(['}', ']', ')']));
                end.is_some_and(|it| it.ends_with(['}', ';', ',']))
            }
        }
    }
}

/// For each line, the `mod` blocks that it is in, the outermost one first.
pub(super) fn blocks(text: &str) -> Vec<Vec<String>> {
    let mut open: Vec<(&str, &str)> = Vec::new();
    let names = text.lines().map(|line| {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let block = code.strip_suffix(" {").and_then(|it| it.split_once("mod "));
        match block.filter(|(before, _)| before.is_empty() || before.starts_with("pub")) {
            Some((_, name)) => open.push((indent, name)),
            None if code == "}" && open.last().is_some_and(|(it, _)| *it == indent) => drop(open.pop()),
            None => {}
        }
        open.iter().map(|(_, name)| (*name).to_owned()).collect()
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_tests_have_ends_where_it_ends() {
        let text = "struct A {
    #[cfg(test)]
    field: u8,
    kept: u8,
}
#[cfg(test)]
const LIST: &[u8] = &[
    1,
];
#[cfg(test)]
fn long(
    argument: u8,
) -> u8 {
    argument
}
fn kept() {}
";
        let kept = without_tests(text, &mut Vec::new());
        let kept: Vec<&str> = kept.lines().filter(|it| !it.is_empty()).collect();
        assert_eq!(kept, ["struct A {", "    kept: u8,", "}", "fn kept() {}"]);
    }

    #[test]
    fn lines_in_blocks() {
        let text = "a\npub(crate) mod b {\n    mod c {\n        d\n    }\n    e {\n    }\n}\nf";
        let found: Vec<String> = blocks(text).iter().map(|it| it.join("::")).collect();
        assert_eq!(found, ["", "b", "b::c", "b::c", "b", "b", "b", "", ""]);
    }
}
