//! Paths on the command line: `~` is expanded by the shell, and only where it can.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// Parses a path. `~/…` arrives here if it was quoted, or followed `--option=`, and would be a folder named `~`.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|it| match unexpanded(&it) {
        Some(why) => Err(why),
        None => Ok(it),
    })
}

/// Says what to write if the shell hasn't expanded the `~` of a path.
pub(crate) fn unexpanded(path: &Path) -> Option<String> {
    let rest = path.strip_prefix("~").ok()?;
    if path.exists() {
        return None;
    }
    let home = Path::new("$HOME").join(rest);
    let home = home.display().to_string();
    Some(format!(
        "`~` isn't expanded here: the shell does that only at the start of a word, without quotes: write \"{}\"",
        home.trim_end_matches('/')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_folder_has_to_be_expanded_by_the_shell() {
        let told = |it: &str| unexpanded(Path::new(it)).unwrap_or_default();
        assert!(told("~/no/such").ends_with("write \"$HOME/no/such\""), "{}", told("~/no/such"));
        assert!(told("~").ends_with("write \"$HOME\""));
        for good in ["", ".", "/~/a", "a/~", "~backup", "no/such"] {
            assert_eq!(told(good), "");
        }
    }
}
