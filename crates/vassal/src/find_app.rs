//! Finds the app in a folder if it is obvious: `wsgi.py`, `app.py`, or Django's `*/wsgi.py`.

use std::fs;
use std::path::Path;

use config::Wrong;

use crate::App;

/// Where to look for the app, in this order.
const USUAL_FILES: [&str; 2] = ["wsgi.py", "app.py"];

/// Finds the app of `directory`.
///
/// # Errors
///
/// Returns an error if there is none, or if several packages may contain it.
pub(crate) fn find_app(directory: &Path) -> Result<App, Wrong> {
    let usual = USUAL_FILES.into_iter().find(|name| directory.join(name).is_file());
    if let Some(name) = usual {
        return App::parse(name);
    }
    match packages(directory).as_slice() {
        [package] => App::parse(&format!("{package}.wsgi")),
        [] => Err(Wrong::new(format!(
            "is missing, and {} contains no wsgi.py, app.py or */wsgi.py",
            directory.display()
        ))
        .hint("write app = \"module:callable\"")),
        [first, ..] => Err(Wrong::new(format!(
            "is missing, and {} contains more than one package with a wsgi.py",
            directory.display()
        ))
        .hint(format!("write for example app = \"{first}.wsgi\""))),
    }
}

/// The importable packages with a `wsgi.py`, by name.
fn packages(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let has_app = |name: &String| directory.join(name).join("wsgi.py").is_file() && App::parse(name).is_ok();
    let mut packages: Vec<_> = names.filter(has_app).collect();
    packages.sort();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_found() {
        for (files, expected) in [
            (&["app.py"] as &[_], "app.py"),
            (&["app.py", "wsgi.py"], "wsgi.py"),
            (&["manage.py", "shop/wsgi.py", "notes/models.py"], "shop.wsgi"),
            (&["app.py", "shop/wsgi.py"], "app.py"),
            (&["shop-old/wsgi.py", "shop/wsgi.py"], "shop.wsgi"),
            (
                &["shop/wsgi.py", "blog/wsgi.py"],
                "is missing, and ROOT contains more than one package with a wsgi.py: write for example app = \"blog.wsgi\"",
            ),
            (
                &["main.py"],
                "is missing, and ROOT contains no wsgi.py, app.py or */wsgi.py: \
                 write app = \"module:callable\"",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                let path = folder.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let message =
                find_app(folder.path()).map_or_else(|wrong| wrong.to_string(), |app| app.to_string());
            assert_eq!(message.replace(folder.path().to_str().unwrap(), "ROOT"), expected, "{files:?}");
        }
    }
}
