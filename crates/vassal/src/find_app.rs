//! Finds the app in a folder if it is obvious: `wsgi.py`, `app.py`, or Django's `*/wsgi.py`, otherwise `asgi.py`, `main.py`
//! or `*/asgi.py`.

use std::fs;
use std::path::Path;

use config::Wrong;

use crate::App;

/// Where to look for the app, in this order. The files in the folder come before those in packages.
const USUAL_FILES: [(&[&str], &str); 2] =
    [(&["wsgi.py", "app.py"], "wsgi"), (&["asgi.py", "main.py"], "asgi")];

/// Finds the app of `directory`.
///
/// # Errors
///
/// Returns an error if there is none, or if several packages may contain it.
pub(crate) fn find_app(directory: &Path) -> Result<App, Wrong> {
    for (files, module) in USUAL_FILES {
        if let Some(name) = files.iter().find(|name| directory.join(name).is_file()) {
            return App::parse(name);
        }
        match packages(directory, module).as_slice() {
            [package] => return App::parse(&format!("{package}.{module}")),
            [] => {}
            [first, ..] => {
                return Err(Wrong::new(format!(
                    "is missing, and {} contains more than one package with a {module}.py",
                    directory.display()
                ))
                .hint(format!("write for example app = \"{first}.{module}\"")));
            }
        }
    }
    Err(Wrong::new(format!(
        "is missing, and {} contains no wsgi.py, app.py, */wsgi.py, asgi.py, main.py or */asgi.py",
        directory.display()
    ))
    .hint("write app = \"module:callable\""))
}

/// The importable packages with that module, by name.
fn packages(directory: &Path, module: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let file = format!("{module}.py");
    let has_app = |name: &String| directory.join(name).join(&file).is_file() && App::parse(name).is_ok();
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
            (&["main.py", "models.py"], "main.py"),
            (&["main.py", "asgi.py"], "asgi.py"),
            (&["main.py", "shop/wsgi.py", "shop/asgi.py"], "shop.wsgi"),
            (&["manage.py", "shop/asgi.py"], "shop.asgi"),
            (
                &["shop.py"],
                "is missing, and ROOT contains no wsgi.py, app.py, */wsgi.py, asgi.py, main.py or */asgi.py: \
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
