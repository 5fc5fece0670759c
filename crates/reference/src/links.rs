//! Checks the links of Markdown files: that what they name is there.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What is wrong with the links of these files, a line each. Links to other hosts are not followed.
#[must_use]
pub fn broken(files: &[PathBuf]) -> Vec<String> {
    let mut anchors = HashMap::new();
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap_or_default();
        for link in links(&text).into_iter().filter(|it| !is_elsewhere(it)) {
            if let Some(why) = wrong(file, &link, &mut anchors) {
                broken.push(format!("{}: {link}: {why}", file.display()));
            }
        }
    }
    broken
}

fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

fn wrong(file: &Path, link: &str, anchors: &mut HashMap<PathBuf, Vec<String>>) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = match path {
        "" => file.to_owned(),
        path => file.parent().unwrap_or(Path::new("")).join(path),
    };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    let anchor = anchor?;
    let known = anchors.entry(target.clone()).or_insert_with(|| headings(&target));
    (!known.iter().any(|it| it == anchor)).then(|| "there is no such heading".to_owned())
}

fn headings(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let prose = without_code_blocks(&text);
    prose
        .lines()
        .filter(|it| it.starts_with('#'))
        .map(|it| anchor(it.trim_start_matches('#').trim()))
        .collect()
}

/// The anchor of a heading, as both GitHub and mdBook make it.
#[must_use]
pub fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of `[text](target)`, and of `src="target"`.
fn links(text: &str) -> Vec<String> {
    let prose = without_code(&without_code_blocks(text));
    let targets = |begin: &str, end: char| {
        let mut found = Vec::new();
        for rest in prose.split(begin).skip(1) {
            found.extend(rest.split_once(end).map(|(target, _)| target.to_owned()));
        }
        found
    };
    let mut links = targets("](", ')');
    links.extend(targets("src=\"", '"'));
    links
}

fn without_code_blocks(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_links_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.md"), folder.path().join("b.md"));
        fs::write(&b, "# Its `limits.body`, and more\n").unwrap();
        let right = "[b](b.md) [c](b.md#its-limitsbody-and-more) [d](https://x.example/) `[e](nowhere.md)`\n\
                     ```\n[f](nowhere.md)\n```\n# Here\n[g](#here)\n";
        fs::write(&a, right).unwrap();
        assert_eq!(broken(std::slice::from_ref(&a)), Vec::<String>::new());

        fs::write(&a, "[b](c.md) ![d](b.md#no) <img src=\"no.svg\">").unwrap();
        let told = broken(std::slice::from_ref(&a)).join("\n").replace(&a.display().to_string(), "a.md");
        assert_eq!(
            told,
            "a.md: c.md: there is no such file\na.md: b.md#no: there is no such heading\na.md: no.svg: there is no such file"
        );
    }
}
