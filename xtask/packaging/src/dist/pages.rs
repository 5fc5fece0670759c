//! Adds the documentation to the package, with links adapted to installed paths.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use super::layout::DOC;
use super::tree::{Kind, Tree};

/// Pages outside of `docs`, and their names in the package.
const PAGES: [(&str, &str); 4] = [
    ("README.md", "README.md"),
    ("SECURITY.md", "SECURITY.md"),
    ("SPECIFICATION.md", "SPECIFICATION.md"),
    ("deploy/README.md", "guide.md"),
];
/// Folders whose files stay together, and their paths in the package.
const FOLDERS: [(&str, &str); 3] =
    [("docs", "docs"), ("deploy/examples", "examples"), ("deploy/systemd", "../../../lib/systemd/system")];

/// Adds the pages.
pub(super) fn put(tree: &mut Tree) -> anyhow::Result<()> {
    for (path, _) in PAGES {
        put_file(tree, Path::new(path))?;
    }
    put_folder(tree, Path::new("docs"))
}

fn put_folder(tree: &mut Tree, folder: &Path) -> anyhow::Result<()> {
    let read = || fs::read_dir(xtask::root().join(folder))?.collect::<Result<Vec<_>, _>>();
    for entry in read().with_context(|| format!("read {}", folder.display()))? {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            put_folder(tree, &path)?;
        } else if path.extension().is_some_and(|it| it != "py") {
            put_file(tree, &path)?;
        }
    }
    Ok(())
}

fn put_file(tree: &mut Tree, path: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(xtask::root().join(path)).with_context(|| format!("read {}", path.display()))?;
    let bytes = match path.extension().is_some_and(|it| it == "md") {
        true => installed(path, &String::from_utf8_lossy(&bytes)).into_bytes(),
        false => bytes,
    };
    let place = place(path).with_context(|| format!("{} has no place in the package", path.display()))?;
    tree.put(Path::new(DOC).join(place), Kind::Plain, bytes);
    Ok(())
}

/// Adapts the links of a page to installed files. Other links are replaced with their text.
fn installed(page: &Path, text: &str) -> String {
    let mut parts = text.split('[');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&link(page, part).unwrap_or_else(|| format!("[{part}")));
    }
    out
}

/// Parses a link, without its first bracket, from the beginning of `part`. `None` if it isn't a link to a
/// file.
fn link(page: &Path, part: &str) -> Option<String> {
    let (text, rest) = part.split_once("](")?;
    let (target, rest) = rest.split_once(')')?;
    if text.contains('\n') || target.contains("://") || target.starts_with('#') {
        return None;
    }
    let (file, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    let folder = page.parent().unwrap_or(Path::new(""));
    let Some(place) = place(&plain(&folder.join(file))) else { return Some(format!("{text}{rest}")) };
    let from = self::place(page).unwrap_or_default();
    let up = "../".repeat(from.components().count().saturating_sub(1));
    let target = format!("{up}{}{anchor}", place.display());
    // Shorten the path of a page in the same folder.
    let beside = place.strip_prefix(from.parent().unwrap_or(Path::new(""))).ok();
    let target = beside.map_or(target, |it| format!("{}{anchor}", it.display()));
    let text = if text == file.trim_start_matches("../") { target.clone() } else { text.to_owned() };
    Some(format!("[{text}]({target}){rest}"))
}

/// Resolves `..` in a path.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// The installed path of a file in the repository.
fn place(path: &Path) -> Option<PathBuf> {
    let page = PAGES.iter().find(|(page, _)| Path::new(page) == path).map(|(_, name)| PathBuf::from(name));
    let in_folder =
        |(folder, name): &(&str, &str)| Some(Path::new(name).join(path.strip_prefix(folder).ok()?));
    page.or_else(|| FOLDERS.iter().find_map(in_folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_refer_to_installed_files() {
        for (page, text, expected) in [
            ("README.md", "see [deploy/README.md](deploy/README.md).", "see [guide.md](guide.md)."),
            ("README.md", "see [the guide](deploy/README.md#x) [1]", "see [the guide](guide.md#x) [1]"),
            ("README.md", "[CONTRIBUTING.md](CONTRIBUTING.md) tells", "CONTRIBUTING.md tells"),
            ("README.md", "[PEP](https://peps.python.org/)", "[PEP](https://peps.python.org/)"),
            ("README.md", "`[static]` (else)", "`[static]` (else)"),
            ("README.md", "![x](docs/images/up.svg)", "![x](docs/images/up.svg)"),
            ("deploy/README.md", "[files](examples/blog.toml) a", "[files](examples/blog.toml) a"),
            ("deploy/README.md", "[Python](../docs/python.md)", "[Python](docs/python.md)"),
            ("docs/python.md", "[preload](preload.md)", "[preload](preload.md)"),
            (
                "docs/reference/app.md",
                "[x](../../deploy/examples/blog.toml)",
                "[x](../../examples/blog.toml)",
            ),
            ("docs/how-to.md", "[x](../deploy/README.md) [y](#here)", "[x](../guide.md) [y](#here)"),
        ] {
            assert_eq!(installed(Path::new(page), text), expected, "{text}");
        }
    }

    #[test]
    fn every_page_is_installed() {
        let mut tree = Tree::default();
        put(&mut tree).unwrap();
        let files: Vec<_> = tree.files().map(|(path, _)| path.to_owned()).collect();
        for file in
            ["README.md", "guide.md", "docs/python.md", "docs/reference/app.md", "docs/schema/app.json"]
        {
            assert!(files.contains(&Path::new(DOC).join(file)), "{file} is not in {files:?}");
        }
    }
}
