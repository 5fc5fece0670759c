//! Reads an app file key by key.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use api::VassalName;
use config::{Diagnostics, Document, Problem, Source, Wrong, value};
use toml_edit::Value;

use crate::foreign::translate;
use crate::{
    App, ChosenBy, Confinement, Domain, HealthPath, Limits, MAX_WORKERS, MountPath, Preload, Python, Queue,
    Recycle, Reload, StaticPrefix, Sticky, Target, Timeouts, Vassal, find_app::find_app, interface::Called,
    name_of, schema::SCHEMA, static_files,
};

const DAY: Duration = Duration::from_secs(86_400);

impl Vassal {
    /// Reads an app file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can't be read, or all its problems.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        Self::from_source(Source::read(path)?)
    }

    /// Parses the text of an app file. `path` determines its name and the base of relative paths.
    ///
    /// # Errors
    ///
    /// Returns all problems of the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Diagnostics> {
        Self::from_source(Source { path: path.to_owned(), text: text.to_owned() })
    }

    /// Creates a diagnostic for a key, with its location, for a problem that the file alone doesn't reveal.
    #[must_use]
    pub fn refuse(&self, key: &str, wrong: Wrong) -> Diagnostics {
        let read = Source::read(&self.file).and_then(|it| Document::parse(it, SCHEMA));
        match read {
            Ok(mut document) => {
                document.refuse(key, wrong.clone());
                let refused: Result<(), Diagnostics> = document.finish(None);
                refused
                    .err()
                    .unwrap_or_else(|| Problem::of_file(&self.file, wrong.of(key).to_string()).into())
            }
            Err(diagnostics) => diagnostics,
        }
    }

    fn from_source(source: Source) -> Result<Self, Diagnostics> {
        let name = name(&source.path)?;
        let file = absolute(&source.path).unwrap_or_else(|_| source.path.clone());
        let mut document = Document::parse_translating(source, SCHEMA, translate)?;
        let vassal = read(&mut document, name, file);
        document.finish(vassal)
    }
}

fn name(path: &Path) -> Result<VassalName, Diagnostics> {
    match name_of(path) {
        Some(Ok(name)) => Ok(name),
        Some(Err(error)) => Err(Problem::of_file(path, format!("cannot name an app: {error}")).into()),
        None => Err(Problem::of_file(
            path,
            "isn't the file of an app: its name must end in `.toml`, and not begin with a dot",
        )
        .into()),
    }
}

/// Returns `None` if a required key is missing or invalid.
fn read(file: &mut Document, name: VassalName, path_of_file: PathBuf) -> Option<Vassal> {
    let domains = domains(file);
    let directory =
        file.required("directory", "directory = \"/srv/blog\"", folder(file.folder(), Absent::Refused));
    let app = app(file, directory.as_deref());
    let path = file.optional("path", |it| MountPath::parse(value::text(it)?)).unwrap_or_default();
    let python = value::path(file.folder());
    let env_file = value::path(file.folder());
    let Called { interface, threads, concurrency, event_loop } = Called::read(file);
    Some(Vassal {
        name,
        file: path_of_file,
        python: file.optional("python", |it| Python::at(python(it)?)).unwrap_or(Python::Default),
        workers: file.optional("workers", value::integer(1..=i64::from(MAX_WORKERS))).unwrap_or(2),
        interface,
        threads,
        concurrency,
        event_loop,
        sticky: file.optional("sticky", sticky).unwrap_or_default(),
        preload: file.optional("preload", Preload::read).unwrap_or_default(),
        health: health(file, &path),
        recycle: Recycle::read(file),
        reload: Reload { watch: file.optional("reload.watch", value::boolean).unwrap_or_default() },
        confinement: Confinement::read(file),
        env: file.entries("env", env_name, |it| value::text(it).map(str::to_owned)).into_iter().collect(),
        env_file: file.optional("env_file", env_file),
        static_folders: static_files::read(file, &path),
        sendfile_folders: file
            .entries("sendfile", StaticPrefix::parse, folder(file.folder(), Absent::Allowed))
            .into_iter()
            .collect(),
        path,
        timeouts: timeouts(file),
        queue: queue(file),
        limits: Limits {
            body: file.optional("limits.body", value::size(0..=1 << 40)).unwrap_or(1_000_000_000),
            message: file.optional("limits.message", value::size(1..=1 << 30)).unwrap_or(16 << 20),
        },
        // Last, so that all other keys have been checked if one of these is missing.
        domains: domains?,
        app: app.as_ref()?.0.clone(),
        app_chosen_by: app?.1,
        directory: directory?,
    })
}

fn domains(file: &mut Document) -> Option<Vec<Domain>> {
    let mut domains = file.required_list("domains", "domains = [\"blog.example\"]", Domain::parse)?;
    let mut seen = HashSet::new();
    domains.retain(|domain| seen.insert(domain.clone()));
    Some(domains)
}

/// How to treat a folder that doesn't exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Refused,
    /// It may be created later.
    Allowed,
}

fn folder(base: PathBuf, absent: Absent) -> impl Fn(&Value) -> Result<PathBuf, Wrong> {
    let path = value::path(base);
    move |value| {
        let path = path(value)?;
        let what = match path.metadata() {
            Ok(it) if it.is_dir() => return Ok(path),
            Ok(_) => "isn't one".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => match absent {
                Absent::Allowed => return Ok(path),
                Absent::Refused => "does not exist".to_owned(),
            },
            Err(error) => format!("cannot be read: {error}"),
        };
        let hint = "create the folder, or correct the path";
        Err(Wrong::new(format!("must be a folder, but {} {what}", path.display())).hint(hint))
    }
}

/// The app that the file names, otherwise the one found in the folder.
fn app(file: &mut Document, directory: Option<&Path>) -> Option<(App, ChosenBy)> {
    if let Some(directory) = directory.filter(|_| !file.has("app") && !file.is_misplaced("app")) {
        let found = find_app(directory).map_err(|wrong| file.refuse("app", wrong));
        return Some((found.ok()?, ChosenBy::Folder));
    }
    let app = file.required("app", "app = \"module:callable\"", |it| App::parse(value::text(it)?))?;
    let app = app.in_directory(directory?);
    check_app_file(file, &app, directory?);
    Some((app, ChosenBy::Operator))
}

fn check_app_file(file: &mut Document, app: &App, directory: &Path) {
    if let Target::File(name) | Target::Paste(name) = &app.target {
        let path = directory.join(name);
        if !path.is_file() {
            let wrong = Wrong::new(format!("names the file {}, which does not exist", path.display()));
            file.refuse(
                "app",
                wrong
                    .hint("write its path relative to `directory`, or for example \"blog.wsgi:application\""),
            );
        }
    }
}

fn health(file: &mut Document, mount: &MountPath) -> Option<HealthPath> {
    file.optional("health", |it| HealthPath::parse(value::text(it)?, mount))
}

/// Checks a name by the rules that shells and Python share (POSIX.1, section 8.1).
fn env_name(name: &str) -> Result<String, Wrong> {
    let allowed = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(allowed) {
        let rule = "use letters, digits and `_`, and don't start with a digit";
        return Err(Wrong::new("isn't a valid name of an environment variable").hint(rule));
    }
    Ok(name.to_owned())
}

fn timeouts(file: &mut Document) -> Timeouts {
    let second = Duration::from_secs(1);
    let mut limit = |key| {
        let limit = file.optional(key, value::duration(Duration::ZERO..=DAY)).unwrap_or(second * 60);
        Some(limit).filter(|it| !it.is_zero())
    };
    let (request, idle) = (limit("timeouts.request"), limit("timeouts.idle"));
    Timeouts {
        start: file.optional("timeouts.start", value::duration(second..=DAY)).unwrap_or(second * 60),
        request,
        idle,
        stop: file.optional("timeouts.stop", value::duration(Duration::ZERO..=DAY)).unwrap_or(second * 30),
        websocket_drain: file
            .optional("timeouts.websocket_drain", value::duration(Duration::ZERO..=DAY))
            .unwrap_or(second * 3600),
    }
}

fn sticky(value: &Value) -> Result<Sticky, Wrong> {
    if value.as_str() == Some("cookie") {
        return Ok(Sticky::Cookie);
    }
    let wrong = Wrong::new(format!("must be \"cookie\", not {}", value.to_string().trim()));
    Err(match value.as_bool() {
        Some(false) => wrong.hint("remove `sticky`"),
        _ => wrong.hint("write \"cookie\""),
    })
}

fn queue(file: &mut Document) -> Queue {
    let timeout = file.optional("queue.timeout", value::duration(Duration::ZERO..=DAY));
    Queue {
        size: file.optional("queue.size", value::integer(0..=1_000_000)).unwrap_or(1000),
        timeout: timeout.unwrap_or(Duration::from_secs(30)),
    }
}

#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;
