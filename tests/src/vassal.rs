//! The vassal files of the apps.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::place::Place;

/// One app's file, as an operator would write it.
#[derive(Debug, Clone)]
pub struct Vassal {
    name: String,
    domain: String,
    directory: PathBuf,
    app: String,
    python: Option<PathBuf>,
    workers: u32,
    keys: String,
    env: Vec<(String, String)>,
    folders: Vec<(String, PathBuf)>,
    tables: String,
}

impl Vassal {
    /// An app in a folder, served at `NAME.localhost` by one worker.
    #[must_use]
    pub fn new(name: &str, directory: &Path, app: &str) -> Self {
        Self {
            name: name.to_owned(),
            domain: format!("{name}.localhost"),
            directory: directory.to_owned(),
            app: app.to_owned(),
            python: None,
            workers: 1,
            keys: String::new(),
            env: Vec::new(),
            folders: Vec::new(),
            tables: String::new(),
        }
    }

    /// The bare WSGI callables.
    #[must_use]
    pub fn wsgi(place: &Place) -> Self {
        Self::new("wsgi", &place.apps.join("wsgi"), "edges:application")
    }

    /// Flask, its static files from disk.
    #[must_use]
    pub fn flask(place: &Place) -> Self {
        let folder = place.apps.join("flask");
        Self::new("flask", &folder, "app:app").python(&place.venv).folder("/static/", &folder.join("static"))
    }

    /// Pyramid, its static files from disk.
    #[must_use]
    pub fn pyramid(place: &Place) -> Self {
        let folder = place.apps.join("pyramid");
        let vassal = Self::new("pyramid", &folder, "app:application").python(&place.venv);
        vassal.folder("/static/", &folder.join("static"))
    }

    /// Django on that database, its collected static files from disk.
    #[must_use]
    pub fn django(place: &Place, database: &Path) -> Self {
        Self::new("django", &place.apps.join("django"), "site_django.wsgi:application")
            .python(&place.venv)
            .env("DJANGO_DB", &database.display().to_string())
            .env("DJANGO_STATIC_ROOT", &place.django_static().display().to_string())
            .folder("/static/", &place.django_static())
    }

    /// Another name, and with it another domain.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.domain(&format!("{name}.localhost"))
    }

    /// Another domain.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        domain.clone_into(&mut self.domain);
        self
    }

    /// Another callable of the same folder.
    #[must_use]
    pub fn app(mut self, app: &str) -> Self {
        app.clone_into(&mut self.app);
        self
    }

    /// A virtualenv or an interpreter.
    #[must_use]
    pub fn python(mut self, python: &Path) -> Self {
        self.python = Some(python.to_owned());
        self
    }

    /// How many processes.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A folder of static files.
    #[must_use]
    pub fn folder(mut self, prefix: &str, folder: &Path) -> Self {
        self.folders.push((prefix.to_owned(), folder.to_owned()));
        self
    }

    /// A line of TOML among the first keys, such as `path = "/blog"`.
    #[must_use]
    pub fn key(mut self, line: &str) -> Self {
        self.keys += line;
        self.keys.push('\n');
        self
    }

    /// A table of TOML, such as `[queue]` and its lines.
    #[must_use]
    pub fn table(mut self, lines: &str) -> Self {
        self.tables += lines;
        self.tables.push('\n');
        self
    }

    /// The name of the app.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        self.text_for(rustix::process::geteuid().is_root())
    }

    /// The text of the file, for an emperord that is root or is not.
    #[must_use]
    pub fn text_for(&self, is_root: bool) -> String {
        let Self { domain, directory, app, workers, keys, tables, .. } = self;
        let mut text = format!(
            "domains = [\"{domain}\"]\napp = \"{app}\"\ndirectory = \"{}\"\nworkers = {workers}\n{keys}",
            directory.display()
        );
        // Root runs an app as root only where its file says so, and in these folders no other user could run it.
        if is_root && !keys.lines().any(|line| line.starts_with("user")) {
            text += "user = \"root\"\n";
        }
        if let Some(python) = &self.python {
            let _never = writeln!(text, "python = \"{}\"", python.display());
        }
        table(&mut text, "env", self.env.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let folders = self.folders.iter();
        table(
            &mut text,
            "static",
            folders.map(|(prefix, folder)| (prefix.as_str(), folder.display().to_string())),
        );
        text + tables
    }
}

fn table<'a>(text: &mut String, name: &str, rows: impl Iterator<Item = (&'a str, String)>) {
    for (number, (key, value)) in rows.enumerate() {
        if number == 0 {
            let _never = writeln!(text, "\n[{name}]");
        }
        let _never = writeln!(text, "\"{key}\" = \"{value}\"");
    }
}
