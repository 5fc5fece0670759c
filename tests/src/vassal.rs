//! The apps' vassal files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::grid::Framework;
use crate::place::Place;

/// An app's file, as an operator would write it.
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
    /// Creates an app in a folder, served at `NAME.localhost` by one worker.
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

    /// The plain WSGI app.
    #[must_use]
    pub fn wsgi(place: &Place) -> Self {
        Self::new("wsgi", &place.apps.join("wsgi"), "edges:application")
    }

    /// The Flask app, with its static files.
    #[must_use]
    pub fn flask(place: &Place) -> Self {
        let folder = place.apps.join("flask");
        Self::new("flask", &folder, "app:app").python(&place.venv).folder("/static/", &folder.join("static"))
    }

    /// The Pyramid app, with its static files.
    #[must_use]
    pub fn pyramid(place: &Place) -> Self {
        let folder = place.apps.join("pyramid");
        let vassal = Self::new("pyramid", &folder, "app:application").python(&place.venv);
        vassal.folder("/static/", &folder.join("static"))
    }

    /// The Django app with that database, and its collected static files.
    #[must_use]
    pub fn django(place: &Place, database: &Path) -> Self {
        Self::new("django", &place.apps.join("django"), "site_django.wsgi:application")
            .python(&place.venv)
            .env("DJANGO_DB", &database.display().to_string())
            .env("DJANGO_STATIC_ROOT", &place.django_static().display().to_string())
            .folder("/static/", &place.django_static())
    }

    /// The FastAPI app, with its static files. It has one worker, whose memory has the members of its chat.
    #[must_use]
    pub fn fastapi(place: &Place) -> Self {
        let folder = place.apps.join("fastapi");
        let vassal = Self::new("fastapi", &folder, "app:app").python(&place.venv);
        vassal.folder("/static/", &folder.join("static"))
    }

    /// The plain ASGI app that misbehaves.
    #[must_use]
    pub fn bad_asgi(place: &Place) -> Self {
        Self::new("bad", &place.apps.join("asgi"), "bad:application").python(&place.venv)
    }

    /// The plain ASGI app whose WebSockets misbehave.
    #[must_use]
    pub fn bad_sockets(place: &Place) -> Self {
        Self::bad_asgi(place).app("bad_sockets:application")
    }

    /// The app of a framework in the compatibility grid.
    #[must_use]
    pub fn of_grid(place: &Place, framework: Framework) -> Self {
        Self::new(framework.name, &place.apps.join("asgi"), framework.app).python(&place.venv)
    }

    /// Changes the name, and the domain accordingly.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.domain(&format!("{name}.localhost"))
    }

    /// Changes the domain.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        domain.clone_into(&mut self.domain);
        self
    }

    /// Adds a domain.
    #[must_use]
    pub fn also(mut self, domain: &str) -> Self {
        self.domain = format!("{}\", \"{domain}", self.domain);
        self
    }

    /// Changes the callable.
    #[must_use]
    pub fn app(mut self, app: &str) -> Self {
        app.clone_into(&mut self.app);
        self
    }

    /// Sets a virtualenv or an interpreter.
    #[must_use]
    pub fn python(mut self, python: &Path) -> Self {
        self.python = Some(python.to_owned());
        self
    }

    /// Sets the number of workers.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a folder of static files.
    #[must_use]
    pub fn folder(mut self, prefix: &str, folder: &Path) -> Self {
        self.folders.push((prefix.to_owned(), folder.to_owned()));
        self
    }

    /// Adds a line of TOML before the tables, such as `path = "/blog"`.
    #[must_use]
    pub fn key(mut self, line: &str) -> Self {
        self.keys += line;
        self.keys.push('\n');
        self
    }

    /// Adds a TOML table, such as `[queue]` and its keys.
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

    /// The text of the file, for an emperord that does or doesn't run as root.
    #[must_use]
    pub fn text_for(&self, is_root: bool) -> String {
        let Self { domain, directory, app, workers, keys, tables, .. } = self;
        let mut text = format!(
            "domains = [\"{domain}\"]\napp = \"{app}\"\ndirectory = \"{}\"\nworkers = {workers}\n{keys}",
            directory.display()
        );
        // Root runs an app as root only if its file says so, and no other user could run the app in these
        // folders.
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
