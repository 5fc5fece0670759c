//! Finds the folders of a project above the one that has its app.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// How far up to look.
const MOST: usize = 16;
/// Files of a project's own folder.
const MARKS: [&str; 8] = [
    "pyproject.toml",
    "manage.py",
    "setup.py",
    "setup.cfg",
    "requirements.txt",
    "Pipfile",
    "poetry.lock",
    "uv.lock",
];

/// Returns the parents of `folder` that have files of a project, the nearest first.
///
/// They are looked for up to the root of the repository. The home folder, and whatever belongs to another user, is no
/// part of a project: the interpreter of another user must not run by itself.
pub(crate) fn above(folder: &Path) -> Vec<PathBuf> {
    let home = env::home_dir().filter(|it| !it.as_os_str().is_empty());
    bounded(folder, home.as_deref(), |it| fs::metadata(it).is_ok_and(|it| it.uid() == geteuid().as_raw()))
}

fn bounded(folder: &Path, home: Option<&Path>, is_own: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    let home = home.and_then(|it| it.canonicalize().ok());
    let is_repository = |it: &Path| it.join(".git").symlink_metadata().is_ok();
    let is_inside = |it: &&Path| home.as_deref() != Some(it) && it.parent().is_some() && is_own(it);
    if is_repository(&folder) || !is_inside(&folder.as_path()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for parent in folder.ancestors().skip(1).take(MOST).take_while(is_inside) {
        if is_repository(parent) || MARKS.iter().any(|it| parent.join(it).is_file()) {
            found.push(parent.to_owned());
        }
        if is_repository(parent) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_belong_to_the_project_up_to_its_repository() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let app = top.join("site/backend/src/blog");
        fs::create_dir_all(&app).unwrap();
        let find = |home: &Path, own: &dyn Fn(&Path) -> bool| {
            let found = bounded(&app, Some(home), own);
            let names = found.iter().map(|it| it.strip_prefix(&top).unwrap().display().to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        let (nowhere, own) = (Path::new("/nonexistent"), |_: &Path| true);
        assert_eq!(find(nowhere, &own), "");
        for file in ["pyproject.toml", "site/manage.py", "site/backend/pyproject.toml"] {
            fs::write(top.join(file), "").unwrap();
        }
        let site = top.join("site");
        assert_eq!(find(nowhere, &own), "site/backend site ");
        assert_eq!(find(&site, &own), "site/backend", "the home folder is no project");
        assert_eq!(find(nowhere, &|it: &Path| *it != site), "site/backend", "a folder of another user");
        assert_eq!(find(nowhere, &|it: &Path| *it != app), "");
        fs::create_dir(site.join(".git")).unwrap();
        assert_eq!(find(nowhere, &own), "site/backend site");
        // A repository without other files counts, too.
        fs::create_dir(site.join("backend/src/.git")).unwrap();
        assert_eq!(find(nowhere, &own), "site/backend/src");
        fs::write(app.join(".git"), "gitdir: elsewhere").unwrap();
        assert_eq!(find(nowhere, &own), "");
    }
}
