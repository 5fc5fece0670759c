//! Recognizes files that aren't an app, such as Django's `manage.py`, and says what to run instead.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::{new, shell};

/// How much of a file is read, in bytes.
const LIMIT: u64 = 256 << 10;

/// What the argument names, and what to do. None if it may be an app.
pub(super) fn of(app: &str, directory: &Path) -> Option<(&'static str, String)> {
    let file = directory.join(app);
    match file.extension()?.to_str()? {
        "py" if app.ends_with("manage.py") => manage(&file, directory),
        "ini" if file.is_file() => uwsgi(app, &file, directory),
        "toml" if file.is_file() => Some((
            "no Python file",
            "`imperium up --root DIR` runs the apps whose files are in DIR/vassals/; `imperium up app.py` runs one app without \
             such a file"
                .to_owned(),
        )),
        _ => None,
    }
}

/// Django's `manage.py`, unless it has an app itself.
fn manage(file: &Path, here: &Path) -> Option<(&'static str, String)> {
    let found = new::app_of_manage(file)?;
    Some(("Django's command-line utility, not the app", format!("run `{}`", found.command(here))))
}

/// A file of uWSGI that isn't one of Paste, too.
fn uwsgi(app: &str, file: &Path, here: &Path) -> Option<(&'static str, String)> {
    let mut text = String::new();
    File::open(file).ok()?.take(LIMIT).read_to_string(&mut text).ok()?;
    let sections: Vec<_> = new::sections(&text).collect();
    if !sections.contains(&"uwsgi") || sections.iter().any(|it| it.contains(':')) {
        return None;
    }
    let convert =
        format!("`imperium new {}` writes the file of an app from it, for a deployment", shell::quoted(app));
    let hint = match new::app_of_file(file) {
        Some(found) => format!("run `{}`; {convert}", found.command(here)),
        None => convert,
    };
    Some(("a configuration file of uWSGI", hint))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_are_no_app_are_recognized() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let told =
            |app: &str| of(app, &here).map(|(what, hint)| format!("{what}: {hint}")).unwrap_or_default();
        assert_eq!(told("app.py"), "");
        assert_eq!(told("manage.py"), "");
        let manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n";
        fs::write(here.join("manage.py"), manage).unwrap();
        assert_eq!(
            told("manage.py"),
            "Django's command-line utility, not the app: run `DJANGO_SETTINGS_MODULE=mysite.settings imperium up \
             'django.core.wsgi:get_wsgi_application()'`"
        );
        fs::create_dir(here.join("mysite")).unwrap();
        fs::write(here.join("mysite/wsgi.py"), "application = get_wsgi_application()\n").unwrap();
        assert_eq!(
            told("manage.py"),
            "Django's command-line utility, not the app: run `imperium up mysite.wsgi:application`"
        );
        let elsewhere = of("manage.py", &here).unwrap().1;
        assert_eq!(elsewhere, "run `imperium up mysite.wsgi:application`");
        fs::write(here.join("manage.py"), format!("{manage}application = make()\n")).unwrap();
        assert_eq!(told("manage.py"), "", "it has an app itself");

        fs::write(here.join("uwsgi.ini"), "[uwsgi]\nmodule = mysite.wsgi:application\n").unwrap();
        assert_eq!(
            told("uwsgi.ini"),
            "a configuration file of uWSGI: run `imperium up mysite.wsgi:application`; `imperium new uwsgi.ini` writes \
             the file of an app from it, for a deployment"
        );
        fs::write(here.join("both.ini"), "[uwsgi]\nini-paste = %p\n[app:main]\nuse = egg:shop\n").unwrap();
        assert_eq!(told("both.ini"), "", "it is also a Paste file");
        fs::write(here.join("shop.toml"), "app = 'a'\n").unwrap();
        assert!(told("shop.toml").starts_with("no Python file: `imperium up --root DIR`"));
    }
}
