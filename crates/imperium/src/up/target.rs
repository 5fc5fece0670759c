//! What the argument of `up APP` names, or what to write instead.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use api::VassalName;
use config::Wrong;
use miette::Diagnostic;
use vassal::{App, Target};

use super::instead;
use crate::{home, new};

/// Files that usually have the app, the likeliest first.
const USUAL_FILES: [&str; 6] = ["app.py", "wsgi.py", "main.py", "asgi.py", "application.py", "manage.py"];
/// How many files of a folder are looked at, and named.
const MOST_FILES: usize = 1000;
const SHOWN_FILES: usize = 5;

const NO_FILE: &str =
    "go to the folder of the app, or pass the path of the file relative to the current folder";

/// An app's name, and its file, if it was named by one.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: VassalName,
    pub(super) file: Option<PathBuf>,
}

/// An argument that names no app.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum TargetError {
    #[error("run `{0}`: it is neither a Python file nor a module")]
    #[diagnostic(help(
        "write `imperium up app.py`, `imperium up app.py:callable` or `imperium up module:callable`"
    ))]
    Target(String),
    #[error("run `{app}`: it {why}")]
    Call { app: String, why: Wrong },
    #[error("run `{app}`: {why}")]
    OwnServer { app: String, why: Wrong },
    #[error("run {}: there is no such file", file.display())]
    NoFile {
        file: PathBuf,
        #[help]
        hint: String,
    },
    #[error("run `{app}`: it is a folder: name the app's file")]
    Folder {
        app: String,
        #[help]
        hint: String,
    },
    #[error("run `{app}`: it is {what}")]
    Instead {
        app: String,
        what: &'static str,
        #[help]
        hint: String,
    },
}

/// Finds the app's file or module, and derives its name from it.
pub(super) fn find(app: &str, directory: &Path) -> Result<Named, TargetError> {
    if let Some(folder) = folder_of(app, directory) {
        return Err(TargetError::Folder { app: app.to_owned(), hint: what_to_run(&folder, directory) });
    }
    if let Some((what, hint)) = instead::of(app, directory) {
        return Err(TargetError::Instead { app: app.to_owned(), what, hint });
    }
    let refused = || TargetError::Target(app.to_owned());
    let wrong = |why: Wrong| match app.contains('(') {
        true => TargetError::Call { app: app.to_owned(), why },
        false => refused(),
    };
    let (stem, file) = match App::parse(app).map_err(wrong)?.target {
        Target::Module(module) => (module, None),
        Target::File(file) | Target::Paste(file) if !directory.join(&file).is_file() => {
            let hint = home::unexpanded(file.as_ref()).unwrap_or_else(|| NO_FILE.to_owned());
            return Err(TargetError::NoFile { file: directory.join(file), hint });
        }
        Target::File(file) | Target::Paste(file) => {
            let stem = Path::new(&file).with_extension("").file_name().map(lossy).ok_or_else(refused)?;
            (stem, Some(directory.join(file)))
        }
    };
    if let Some(why) = file.as_deref().and_then(new::own_server) {
        return Err(TargetError::OwnServer { app: app.to_owned(), why });
    }
    Ok(Named { name: crate::app_name::app_name(&stem).ok_or_else(refused)?, file })
}

/// The folder that `app` names, unless a module has that name: a package, or a file beside the folder.
fn folder_of(app: &str, directory: &Path) -> Option<PathBuf> {
    let folder = directory.join(app).canonicalize().ok().filter(|it| !app.is_empty() && it.is_dir())?;
    let is_module = !app.contains(['/', '.'])
        && (folder.join("__init__.py").is_file() || directory.join(format!("{app}.py")).is_file());
    (!is_module).then_some(folder)
}

/// How to run the app of a folder, and the Python files that are in it.
fn what_to_run(folder: &Path, here: &Path) -> String {
    let run = match new::app_of(folder) {
        Some(found) => format!("run `{}`", found.command(here)),
        None => format!("write for example `{}imperium up app.py`", new::go(here, folder)),
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_FILES);
    let files = entries.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "py"));
    let mut files: Vec<_> = files.filter_map(|it| Some(lossy(it.file_name()?))).collect();
    // Those that usually have an app come first.
    files
        .sort_by_key(|it| (USUAL_FILES.iter().position(|name| name == it).unwrap_or(usize::MAX), it.clone()));
    files.truncate(SHOWN_FILES);
    match files.is_empty() {
        true => format!("{run}; there is no Python file in the folder"),
        false => format!("{run}; its Python files are {}", files.join(", ")),
    }
}

fn lossy(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        for file in ["app.py", "src/My App.py", "_wsgi.py", "ä.py"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let check = |app: &str, expected: &str| {
            let name = find(app, folder.path()).map(|it| it.name.to_string());
            assert_eq!(
                name.unwrap_or_else(|error| error.to_string().replace(&lossy(folder.path().as_os_str()), "")),
                expected
            );
        };
        check("app.py", "app");
        check("app.py:create", "app");
        check("src/My App.py:app", "my-app");
        check("_wsgi.py", "wsgi");
        check("ä.py", "app");
        check("blog.wsgi:application", "blog-wsgi");
        check("blog_2:app", "blog_2");
        check("blog", "blog");
        check("shop:create_app(\"prod\", debug=False)", "shop");
        check(
            "shop:create_app(config)",
            "run `shop:create_app(config)`: it must call `create_app` with literals only, but a literal is missing (a \
             string, a number, True, False, None, a list, a tuple or a dictionary) at `config`: write for example \
             \"create_app('prod', debug=False)\", or pass what it needs in [env]",
        );
        check("none.py", "run /none.py: there is no such file");
        check("src", "run `src`: it is a folder: name the app's file");
        check(".", "run `.`: it is a folder: name the app's file");
        check("no/such", "run `no/such`: it is neither a Python file nor a module");
        check("", "run ``: it is neither a Python file nor a module");
    }

    #[test]
    fn a_file_that_starts_its_own_server_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = |end: &str| {
            let text = format!("from flask import Flask\n\napp = Flask(__name__)\n\n{end}");
            fs::write(folder.path().join("app.py"), text).unwrap();
            find("app.py", folder.path()).map_or_else(|error| error.to_string(), |it| it.name.to_string())
        };
        assert_eq!(
            run("app.run(debug=True)\n"),
            "run `app.py`: app.py, line 5: `app.run(debug=True)` starts its own server when the file is imported: move it \
             under `if __name__ == \"__main__\":`"
        );
        assert_eq!(run("if __name__ == '__main__':\n    app.run(debug=True)\n"), "app");
        assert_eq!(run("def main():\n    app.run()\n\ntasks.run()\n"), "app");
    }

    #[test]
    fn a_folder_is_refused_with_the_command_that_runs_its_app() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        fs::create_dir_all(here.join("site/blog")).unwrap();
        assert_eq!(
            what_to_run(&here.join("site/blog"), &here),
            format!(
                "write for example `cd {}/site/blog && imperium up app.py`; there is no Python file in the folder",
                here.display()
            )
        );
        fs::write(here.join("site/app.py"), "from flask import Flask\n\napp = Flask(__name__)\n").unwrap();
        fs::write(here.join("site/admin.py"), "").unwrap();
        let files = "its Python files are app.py, admin.py";
        assert_eq!(
            what_to_run(&here.join("site"), &here),
            format!("run `cd {}/site && imperium up app:app`; {files}", here.display())
        );
        assert_eq!(
            what_to_run(&here.join("site"), &here.join("site")),
            format!("run `imperium up app:app`; {files}")
        );
        fs::write(here.join("site/app.py"), "").unwrap();
        fs::write(
            here.join("site/manage.py"),
            "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'blog.settings')",
        )
        .unwrap();
        fs::write(here.join("site/blog/wsgi.py"), "").unwrap();
        let actual = what_to_run(&here.join("site"), &here.join("site"));
        assert_eq!(
            actual,
            "run `imperium up blog.wsgi:application`; its Python files are app.py, manage.py, admin.py"
        );
        // A package is a module.
        assert!(folder_of("site", &here).is_some());
        fs::write(here.join("site/__init__.py"), "").unwrap();
        assert_eq!(folder_of("site", &here), None);
        assert!(folder_of("site/", &here).is_some());
    }

    #[test]
    fn suggested_commands_are_quoted_for_the_shell() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let site = here.join("my site");
        fs::create_dir(&site).unwrap();
        fs::write(
            site.join("web.py"),
            "from flask import Flask\n\ndef create_app():\n    app = Flask(__name__)\n    return app\n",
        )
        .unwrap();
        let expected = format!(
            "run `cd '{}/my site' && imperium up 'web:create_app()'`; its Python files are web.py",
            here.display()
        );
        assert_eq!(what_to_run(&site, &here), expected);
    }

    #[test]
    fn a_module_beside_a_folder_of_its_name_is_not_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("app")).unwrap();
        assert!(folder_of("app", folder.path()).is_some());
        fs::write(folder.path().join("app.py"), "").unwrap();
        assert_eq!(folder_of("app", folder.path()), None);
        assert!(folder_of("app/", folder.path()).is_some());
        assert!(folder_of("./app", folder.path()).is_some());
    }
}
