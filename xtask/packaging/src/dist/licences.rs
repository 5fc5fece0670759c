//! Collects the licenses of all code in the programs, with each text included once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::packages::Package;
use super::tree::files_of;

const RULE: &str = "────────────────────────────────────────────────────────────────────────────────";

/// The list of crates with their licenses, followed by the text of each license.
pub(crate) fn text<'a>(packages: impl Iterator<Item = &'a Package> + Clone) -> anyhow::Result<String> {
    let mut text = "Imperium's programs have these crates in them, and the standard library of Rust \
                    (Apache-2.0 OR MIT).\n\n"
        .to_owned();
    let theirs = packages.filter(|it| !it.ours);
    for package in theirs.clone() {
        writeln!(text, "{} {}: {}", package.name, package.version, package.licence)?;
    }
    for (words, of) in words(theirs)? {
        write!(text, "\n{RULE}\n{}\n{RULE}\n\n{words}", of.join(", "))?;
    }
    Ok(text)
}

/// The crates of each license text.
fn words<'a>(packages: impl Iterator<Item = &'a Package>) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut words: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        for file in licence_files(&package.folder)? {
            let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            let of = words.entry(format!("{}\n", text.trim_end())).or_default();
            of.push(format!("{} {}", package.name, package.version));
        }
    }
    Ok(words)
}

/// The license files of a crate. Some crates have none, and only name the license.
fn licence_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_licence = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|it| name.starts_with(it))
    };
    Ok(files_of(folder)?.into_iter().filter(is_licence).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_texts_are_included_once() {
        let folder = tempfile::tempdir().unwrap();
        let package = |name: &str, licence: &str| {
            let its = folder.path().join(name);
            fs::create_dir(&its).unwrap();
            fs::write(its.join("LICENSE-MIT"), licence).unwrap();
            fs::write(its.join("lib.rs"), "code").unwrap();
            let (version, licence) = ("1.0.0".to_owned(), "MIT".to_owned());
            Package { name: name.to_owned(), version, licence, folder: its, ours: false, needs: Vec::new() }
        };
        let packages = [package("a", "words\n"), package("b", "words\r\n\n"), package("c", "others")];
        let text = text(packages.iter()).unwrap();
        assert!(text.contains("a 1.0.0: MIT\nb 1.0.0: MIT\nc 1.0.0: MIT\n"), "{text}");
        assert!(text.contains(&format!("\na 1.0.0, b 1.0.0\n{RULE}\n\nwords\n")), "{text}");
        assert!(text.contains(&format!("\nc 1.0.0\n{RULE}\n\nothers\n")) && !text.contains("code"), "{text}");
    }
}
