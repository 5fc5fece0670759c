//! Reads ini files, as uWSGI and Paste use them.

/// A setting, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<'a> {
    pub(crate) section: &'a str,
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
}

/// Returns the names of all sections.
pub(crate) fn sections(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(section)
}

/// Returns all settings. Indented lines, which continue a value, are skipped.
pub(crate) fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    let mut current = "";
    text.lines().filter_map(move |line| {
        if let Some(name) = section(line) {
            current = name;
            return None;
        }
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with([' ', '\t', '#', ';']))?;
        Some(Setting { section: current, key: key.trim(), value: value.trim() })
    })
}

fn section(line: &str) -> Option<&str> {
    Some(line.trim().strip_prefix('[')?.strip_suffix(']')?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_settings() {
        let text = "; a\n[uwsgi]\nmodule = a:b\n  more = 1\n# c = d\n[app:main]\nuse=egg:shop\n";
        assert_eq!(sections(text).collect::<Vec<_>>(), ["uwsgi", "app:main"]);
        let found: Vec<_> = settings(text).collect();
        let setting = |section, key, value| Setting { section, key, value };
        assert_eq!(found, [setting("uwsgi", "module", "a:b"), setting("app:main", "use", "egg:shop")]);
    }
}
