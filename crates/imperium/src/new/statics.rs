//! Finds the folders of static files that a project names itself, as far as its source says it plainly.

use std::path::{Path, PathBuf};

use super::project::Module;
use super::source::{Binding, bindings, callee, strings};

/// A folder of static files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Static {
    /// Such as `/static/`.
    pub(crate) prefix: String,
    pub(crate) folder: PathBuf,
    /// Who says so.
    pub(crate) evidence: String,
}

/// `STATIC_URL` and `STATIC_ROOT` of Django's settings.
pub(crate) fn django(directory: &Path, settings: &Module) -> Option<Static> {
    let root = setting(settings, "STATIC_ROOT")?;
    let url = setting(settings, "STATIC_URL").and_then(|it| strings(it).next().map(str::to_owned));
    let url = url.unwrap_or_else(|| "static/".to_owned());
    if url.contains("://") {
        return None;
    }
    let is_plain =
        callee(root).is_none_or(|it| matches!(it, "join" | "str" | "Path")) && !root.contains("env");
    if !is_plain {
        return None;
    }
    // BASE_DIR / "a" / "b", os.path.join(BASE_DIR, "a", "b") or "/a/b": all of it is in the texts.
    let folder = strings(root).fold(directory.to_owned(), |folder, part| folder.join(part));
    (folder != directory).then(|| Static {
        prefix: prefix(&url),
        folder,
        evidence: format!("STATIC_URL and STATIC_ROOT in {}", settings.path.display()),
    })
}

/// The hosts of `ALLOWED_HOSTS` that are names of sites; one that begins with a dot is that and all below it.
pub(crate) fn allowed_hosts(settings: &Module) -> Vec<String> {
    let hosts = setting(settings, "ALLOWED_HOSTS").into_iter().flat_map(strings);
    let is_site = |host: &&str| host.trim_start_matches('.').contains('.') && !host.starts_with("127.");
    let domains = hosts.filter(is_site).flat_map(|host| match host.strip_prefix('.') {
        Some(name) => vec![name.to_owned(), format!("*.{name}")],
        None => vec![host.to_owned()],
    });
    domains.filter(|it| vassal::Domain::parse(it).is_ok()).collect()
}

/// The folder `static` beside an app of Flask's, which Flask serves at `/static/` by itself.
pub(crate) fn flask(directory: &Path, modules: &[Module]) -> Option<Static> {
    modules.iter().filter(|it| it.text.contains("Flask(")).find_map(|module| {
        let folder = directory.join(&module.path).with_file_name("static");
        let evidence = format!("The folder static beside {}, as Flask has it", module.path.display());
        folder.is_dir().then(|| Static { prefix: "/static/".to_owned(), folder, evidence })
    })
}

/// `config.add_static_view("static", "shop:static")`, or with a path from the module.
pub(crate) fn pyramid(directory: &Path, modules: &[Module]) -> Vec<Static> {
    let of = |module: &Module| {
        let views = module.text.lines().filter(|it| it.contains(".add_static_view("));
        views.filter_map(|line| static_view(directory, module, line)).collect::<Vec<_>>()
    };
    modules.iter().flat_map(of).collect()
}

fn static_view(directory: &Path, module: &Module, line: &str) -> Option<Static> {
    let mut texts = strings(line);
    let (name, path) = (texts.next()?, texts.next()?);
    let folder = match path.split_once(':') {
        Some((package, path)) => directory.join(package.replace('.', "/")).join(path),
        None => directory.join(&module.path).with_file_name(path),
    };
    let evidence = format!("add_static_view in {}", module.path.display());
    (folder.is_dir() && !name.contains("//")).then(|| Static { prefix: prefix(name), folder, evidence })
}

fn setting<'a>(settings: &'a Module, wanted: &str) -> Option<&'a str> {
    let values = bindings(&settings.text).filter_map(|(_, binding)| match binding {
        Binding::Assigned { name, value } if name == wanted => Some(value),
        _ => None,
    });
    // As Python has it: what is said last holds.
    values.last()
}

fn prefix(url: &str) -> String {
    match url.trim_matches('/') {
        "" => "/".to_owned(),
        path => format!("/{path}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, text: &str) -> Module {
        Module { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn django_settings() {
        for (text, expected) in [
            (
                "STATIC_URL = 'static/'\nSTATIC_ROOT = BASE_DIR / \"public\" / 'static'",
                Some(("/static/", "/srv/public/static")),
            ),
            ("STATIC_ROOT = os.path.join(BASE_DIR, 'assets')", Some(("/static/", "/srv/assets"))),
            ("STATIC_URL = '/s/'\nSTATIC_ROOT = '/var/www/s'", Some(("/s/", "/var/www/s"))),
            ("STATIC_URL = 'https://cdn.example/'\nSTATIC_ROOT = '/var/www/s'", None),
            ("STATIC_ROOT = os.environ['STATIC']", None),
            ("STATIC_ROOT = config('STATIC', 'static')", None),
            ("STATIC_URL = '/s/'", None),
        ] {
            let found = django(Path::new("/srv"), &module("shop/settings.py", text));
            let found = found.map(|it| (it.prefix, it.folder));
            assert_eq!(found, expected.map(|(prefix, folder)| (prefix.to_owned(), folder.into())), "{text}");
        }
    }

    #[test]
    fn hosts_of_django() {
        let hosts = "ALLOWED_HOSTS = ['shop.example', '.b.example', 'localhost', '*', '127.0.0.1']";
        assert_eq!(allowed_hosts(&module("s.py", hosts)), ["shop.example", "b.example", "*.b.example"]);
    }

    #[test]
    fn static_views_of_pyramid() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("shop/static")).unwrap();
        let text = "    config.add_static_view('s', 'shop:static')\n    config.add_static_view(name, path)\n";
        let beside = "    config.add_static_view('/files/', 'static', cache_max_age=3600)";
        let modules = [module("shop/__init__.py", text), module("shop/routes.py", beside)];
        let found: Vec<_> = pyramid(folder.path(), &modules).into_iter().map(|it| it.prefix).collect();
        assert_eq!(found, ["/s/", "/files/"]);
    }
}
