//! Decides which files of an app's folder its developer edits.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Sources;

/// Code, and data that Python reads only once.
const CODE: [&str; 3] = ["py", "wsgi", "mo"];
/// Extensions of templates, wherever they are.
const TEMPLATES: [&str; 9] = ["html", "htm", "djhtml", "jinja", "jinja2", "j2", "mako", "pt", "tmpl"];
/// Extensions that count as templates next to other templates, or in a folder with such a name.
const MAYBE_TEMPLATES: [&str; 5] = ["txt", "xml", "md", "svg", "tpl"];
const TEMPLATE_FOLDERS: [&str; 3] = ["templates", "jinja2", "email"];
/// Folders without files that a developer edits. Hidden folders are skipped too.
const SKIPPED: [&str; 4] = ["__pycache__", "node_modules", "site-packages", "dist-packages"];
/// Folders of generated files, unless they are Python packages.
const OUTPUT: [&str; 6] = ["build", "dist", "static", "staticfiles", "media", "htmlcov"];

/// The files that are watched.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) sources: Sources,
}

impl Selection {
    pub(super) fn new(sources: Sources) -> Self {
        Self { sources }
    }

    pub(super) fn has_interpreter(&self) -> bool {
        self.sources.interpreter.is_some()
    }

    /// The path relative to the app's folder, for messages.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.sources.directory).unwrap_or(path).to_owned()
    }

    /// Whether a change of this name, in any folder, may concern a watched file.
    pub(super) fn may_concern(&self, name: &OsStr, is_folder: bool) -> bool {
        match is_folder {
            true => !is_skipped(name),
            false => self.is_code(name) || is_template(name) || is_maybe_template(name),
        }
    }

    /// Whether a folder is skipped with everything in it. This accesses the disk.
    pub(super) fn skips(&self, folder: &Path, name: &OsStr) -> bool {
        let is_output = || OUTPUT.iter().any(|it| name == *it) && !folder.join("__init__.py").exists();
        is_skipped(name)
            || self.sources.served.iter().any(|it| it == folder)
            || is_output()
            || folder.join("pyvenv.cfg").exists()
    }

    /// The watched files of a folder, by name.
    pub(super) fn of_folder<'a>(
        &'a self,
        folder: &'a Path,
        names: &'a [std::ffi::OsString],
    ) -> impl Iterator<Item = &'a std::ffi::OsString> {
        let named = folder.components().any(|part| TEMPLATE_FOLDERS.iter().any(|it| part.as_os_str() == *it));
        let has_templates = named || names.iter().any(|it| is_template(it));
        let is_top = folder == self.sources.directory;
        names.iter().filter(move |name| {
            (is_top && is_env(name))
                || has_extension(name, &CODE)
                || is_template(name)
                || (has_templates && is_maybe_template(name))
        })
    }

    fn is_code(&self, name: &OsStr) -> bool {
        let named = [&self.sources.app, &self.sources.env_file].into_iter().flatten();
        let is_named = named.filter_map(|it| it.file_name()).any(|it| it == name);
        is_named || is_env(name) || has_extension(name, &CODE)
    }
}

fn is_skipped(folder: &OsStr) -> bool {
    let is_hidden = folder.as_encoded_bytes().starts_with(b".");
    is_hidden || SKIPPED.iter().any(|it| folder == *it) || has_extension(folder, &["egg-info"])
}

/// Excludes hidden files, which editors create next to those that they write.
fn has_extension(name: &OsStr, extensions: &[&str]) -> bool {
    let extension = Path::new(name).extension().filter(|_| !name.as_encoded_bytes().starts_with(b"."));
    extension.is_some_and(|it| extensions.iter().any(|one| it == *one))
}

fn is_template(name: &OsStr) -> bool {
    has_extension(name, &TEMPLATES)
}

fn is_maybe_template(name: &OsStr) -> bool {
    has_extension(name, &MAYBE_TEMPLATES)
}

/// `.env`, `.env.local` and the like.
pub(super) fn is_env(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name == b".env" || name.starts_with(b".env.") && !name.ends_with(b"~") && !name.ends_with(b".swp")
}
