//! What is to be read in the package: the repository's pages, with links that lead to where things are installed.

use std::fs;

use anyhow::Context as _;

use super::installed::DOC;
use super::tree::{Kind, Tree};

/// The pages with their picture, and what each is called in the package.
const PAGES: [(&str, &str); 6] = [
    ("README.md", "README.md"),
    ("deploy/README.md", "guide.md"),
    ("docs/failures.md", "failures.md"),
    ("docs/preload.md", "preload.md"),
    ("docs/python.md", "python.md"),
    ("docs/speed.svg", "speed.svg"),
];
/// What else is installed that pages link to, as seen from them.
const FOLDERS: [(&str, &str); 2] =
    [("deploy/examples", "examples"), ("deploy/systemd", "../../../lib/systemd/system")];

/// Puts them.
pub(super) fn put(tree: &mut Tree) -> anyhow::Result<()> {
    for (path, name) in PAGES {
        let text = fs::read_to_string(crate::root().join(path)).with_context(|| format!("read {path}"))?;
        tree.put(format!("{DOC}/{name}"), Kind::Plain, installed(&text));
    }
    Ok(())
}

/// A page whose links lead to what is installed, or else are none.
fn installed(text: &str) -> String {
    let mut parts = text.split('[');
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        page.push_str(&link(part).unwrap_or_else(|| format!("[{part}")));
    }
    page
}

/// What begins with a link's text and its target, without the bracket before it; `None` if that is no link to a file.
fn link(part: &str) -> Option<String> {
    let (text, rest) = part.split_once("](")?;
    let (target, rest) = rest.split_once(')')?;
    if text.contains('\n') || target.contains("://") {
        return None;
    }
    let target = target.trim_start_matches("../");
    Some(match place(target) {
        Some(place) if text == target => format!("[{place}]({place}){rest}"),
        Some(place) => format!("[{text}]({place}){rest}"),
        None => format!("{text}{rest}"),
    })
}

fn place(target: &str) -> Option<&'static str> {
    PAGES.iter().chain(&FOLDERS).find(|(path, _)| *path == target).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_what_is_installed() {
        for (text, expected) in [
            ("see [deploy/README.md](deploy/README.md).", "see [guide.md](guide.md)."),
            ("see [the guide](deploy/README.md) [1]", "see [the guide](guide.md) [1]"),
            ("[docs/python.md](../docs/python.md)", "[python.md](python.md)"),
            ("[files](deploy/examples) a", "[files](examples) a"),
            ("[CONTRIBUTING.md](CONTRIBUTING.md) tells", "CONTRIBUTING.md tells"),
            ("[PEP](https://peps.python.org/)", "[PEP](https://peps.python.org/)"),
            ("`[static]` (else)", "`[static]` (else)"),
        ] {
            assert_eq!(installed(text), expected, "{text}");
        }
    }

    #[test]
    fn every_page_of_the_folder_is_installed() {
        for entry in fs::read_dir(crate::root().join("docs")).unwrap() {
            let path = format!("docs/{}", entry.unwrap().file_name().display());
            assert!(place(&path).is_some(), "{path}");
        }
    }
}
