//! Converts the settings of a `uwsgi.ini`.

use std::path::{Path, PathBuf};

use config::Wrong;

use super::candidates::framework;
use super::found::{Found, Static, Uwsgi};
use super::ini::{sections, settings};
use super::project::{Module, Project};
use super::root::place_in;

/// Settings that don't affect how the app is found or run, or that Imperium handles differently.
const DONE_OTHERWISE: [&str; 45] = [
    "auto-procname",
    "autoload",
    "buffer-size",
    "chmod-socket",
    "chown-socket",
    "daemonize",
    "daemonize2",
    "die-on-term",
    "disable-logging",
    "enable-threads",
    "env",
    "http",
    "http-socket",
    "https",
    "lazy",
    "lazy-apps",
    "listen",
    "log-date",
    "log-format",
    "log-master",
    "logger",
    "logto",
    "logto2",
    "manage-script-name",
    "master",
    "memory-report",
    "need-app",
    "no-orphans",
    "pidfile",
    "pidfile2",
    "plugin",
    "plugins",
    "post-buffering",
    "procname",
    "procname-prefix",
    "protocol",
    "py-autoreload",
    "safe-pidfile",
    "single-interpreter",
    "socket",
    "stats",
    "strict",
    "thunder-lock",
    "uwsgi-socket",
    "vacuum",
];
/// The largest number of unconverted settings to list.
const MAX_TOLD: usize = 8;

struct Ini<'a> {
    path: &'a Path,
    project: &'a Project,
    values: Vec<(String, String)>,
}

/// Returns the app that the best of the project's files names. None if none names one.
///
/// # Errors
/// If it names an app that can't be served.
pub(crate) fn find(project: &Project) -> Result<Option<Found>, Wrong> {
    let named = project.settings.iter().filter(|(_, text)| sections(text).any(|it| it == "uwsgi"));
    let found = named.map(|(path, text)| Ini::read(path, text, project)).filter(Ini::names_app);
    found.min_by_key(Ini::rank).map(|it| it.found()).transpose()
}

/// Returns the app that one file names.
///
/// # Errors
/// As for `find`.
pub(crate) fn of_file(project: &Project, path: &Path, text: &str) -> Result<Option<Found>, Wrong> {
    let ini = Ini::read(path, text, project);
    if ini.names_app() { ini.found().map(Some) } else { Ok(None) }
}

impl<'a> Ini<'a> {
    fn read(path: &'a Path, text: &str, project: &'a Project) -> Self {
        let values = settings(text).filter(|it| it.section == "uwsgi");
        let values =
            values.map(|it| (it.key.replace('_', "-"), it.value.trim_matches(['"', '\'']).to_owned()));
        let mut ini = Self { path, project, values: Vec::new() };
        for (key, value) in values {
            let value = ini.resolved(&value);
            ini.values.push((key, value));
        }
        ini
    }

    /// Expands uWSGI's magic variables that refer to the file, and `%(name)` of settings above.
    fn resolved(&self, value: &str) -> String {
        let folder = self.path.parent().unwrap_or(Path::new("/")).display().to_string();
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let mut value = value
            .replace("%d", &format!("{}/", folder.trim_end_matches('/')))
            .replace("%p", &self.path.display().to_string())
            .replace("%n", &stem)
            .replace("%s", &file);
        for (key, other) in &self.values {
            value = value.replace(&format!("%({key})"), other);
        }
        value
    }

    fn names_app(&self) -> bool {
        self.module().is_some() || self.file().is_some()
    }

    /// The priority of a file, the lowest first: files for development come last, then by depth.
    fn rank(&self) -> (u8, usize) {
        let name = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let is_for_development = ["dev", "test", "local"].iter().any(|it| name.contains(it));
        let kind = if name == "uwsgi" { 1 } else { 2 - u8::from(name.contains("prod")) };
        (if is_for_development { 3 } else { kind }, self.path.components().count())
    }

    /// Returns the last value of these settings.
    fn last(&self, keys: &[&str]) -> Option<&str> {
        let mut values = self.values.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        values.next_back().map(|(_, value)| value.as_str()).filter(|it| !it.is_empty())
    }

    fn all<'s>(&'s self, keys: &'s [&str]) -> impl Iterator<Item = &'s str> {
        self.values.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| value.as_str())
    }

    fn module(&self) -> Option<&str> {
        self.last(&["module", "wsgi"])
    }

    fn file(&self) -> Option<&str> {
        self.last(&["wsgi-file", "file"])
    }

    /// Resolves a path of the file. It is relative to the folder that uWSGI was started in, most likely one
    /// of these.
    fn existing(&self, path: &str, is: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let beside = self.path.parent().unwrap_or(Path::new("/"));
        let folders = [&*self.project.folder, beside].into_iter().chain(beside.parent());
        folders.map(|it| it.join(path)).find_map(|it| it.canonicalize().ok().filter(|it| is(it)))
    }

    fn found(&self) -> Result<Found, Wrong> {
        let shown = self.project.shown(self.path).display().to_string();
        let mut uwsgi = Uwsgi { file: shown.clone(), ..Uwsgi::default() };
        let given = self.last(&["chdir", "chdir2"]);
        let chdir = given.and_then(|it| self.existing(it, Path::is_dir));
        if let (Some(given), None) = (given, &chdir) {
            uwsgi.notes.push(format!(
                "{shown} has chdir = {given}, which doesn't exist on this machine: check `directory`"
            ));
        }
        let mut found = self.app(chdir.as_deref(), &shown)?;
        self.take_over(&found.directory, &mut uwsgi);
        found.uwsgi = Some(uwsgi);
        Ok(found)
    }

    fn app(&self, chdir: Option<&Path>, shown: &str) -> Result<Found, Wrong> {
        let beside = self.path.parent().unwrap_or(Path::new("/"));
        let (name, callable) = match self.module() {
            Some(module) => match module.split_once(':') {
                Some((module, callable)) => (Some(module), Some(callable)),
                None => (Some(module), self.last(&["callable"])),
            },
            None => (None, self.last(&["callable"])),
        };
        let callable = callable.unwrap_or("application");
        let (module, key) = match (name, self.file()) {
            (Some(name), _) => {
                (self.module_of(name, chdir), format!("module = {}", self.module().unwrap_or(name)))
            }
            (None, file) => {
                let file = file.unwrap_or_default();
                (self.module_of_file(file, chdir), format!("wsgi-file = {file}"))
            }
        };
        let evidence = format!("{shown}, with {key}");
        let directory = |module: Option<&Module>| match (chdir, module, name) {
            (Some(chdir), _, _) => chdir.to_owned(),
            (None, Some(module), Some(name)) => module
                .path
                .ancestors()
                .nth(name.split('.').count() + usize::from(module.is_named("__init__.py")))
                .unwrap_or(beside)
                .to_owned(),
            (None, Some(module), None) => super::root::place(module).directory,
            (None, None, _) => beside.to_owned(),
        };
        let directory = directory(module.as_ref());
        let target = match (&module, name) {
            (_, Some(name)) => name.to_owned(),
            (Some(module), None) => place_in(module, &directory).target,
            (None, None) => self.file().unwrap_or_default().to_owned(),
        };
        let app = format!("{target}:{callable}");
        vassal::App::parse(&app).map_err(|wrong| Wrong::new(format!("{shown}: `app` {wrong}")))?;
        let framework = module.as_ref().map_or("WSGI", framework);
        Ok(Found { module: module.map(|it| it.path), ..Found::new(framework, &app, &directory, evidence) })
    }

    /// Finds a module by name, as imported from `chdir`, from `pythonpath`, or from anywhere in the project.
    fn module_of(&self, name: &str, chdir: Option<&Path>) -> Option<Module> {
        let path = PathBuf::from(name.replace('.', "/"));
        let files = [path.with_extension("py"), path.join("__init__.py")];
        let path_given =
            self.all(&["pythonpath", "python-path", "pp"]).filter_map(|it| self.existing(it, Path::is_dir));
        let folders =
            chdir.map(Path::to_owned).into_iter().chain(path_given).chain([self.project.folder.clone()]);
        let in_folders =
            folders.flat_map(|folder| files.clone().map(|it| folder.join(it))).find(|it| it.is_file());
        let anywhere = || {
            let modules = self.project.modules.iter().map(|it| &it.path);
            modules.into_iter().find(|it| files.iter().any(|file| it.ends_with(file))).cloned()
        };
        Module::read(in_folders.or_else(anywhere)?, &self.project.folder)
    }

    fn module_of_file(&self, file: &str, chdir: Option<&Path>) -> Option<Module> {
        let from_chdir = chdir.map(|it| it.join(file)).filter(|it| it.is_file());
        let path = from_chdir.or_else(|| self.existing(file, Path::is_file));
        let anywhere = || {
            let name = Path::new(file).file_name()?;
            self.project.modules.iter().map(|it| &it.path).find(|it| it.file_name() == Some(name)).cloned()
        };
        Module::read(path.or_else(anywhere)?, &self.project.folder)
    }

    fn take_over(&self, directory: &Path, uwsgi: &mut Uwsgi) {
        let shown = uwsgi.file.clone();
        let number =
            |keys: &[&str]| self.last(keys)?.parse().ok().filter(|it| (1..=vassal::MAX_WORKERS).contains(it));
        uwsgi.workers = number(&["processes", "workers", "p"]);
        uwsgi.threads = number(&["threads"]).filter(|it| *it <= 256);
        if let Some(given) = self.last(&["virtualenv", "venv", "home", "pyhome"]) {
            uwsgi.virtualenv = self.existing(given, |it| it.join("bin/python").exists());
            if uwsgi.virtualenv.is_none() {
                uwsgi.notes.push(format!(
                    "{shown} has virtualenv = {given}, which doesn't exist on this machine: set `python`"
                ));
            }
        }
        uwsgi.env.extend(
            self.all(&["env"])
                .filter_map(|it| it.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let paths =
            self.all(&["pythonpath", "python-path", "pp"]).filter_map(|it| self.existing(it, Path::is_dir));
        let paths: Vec<_> = paths.filter(|it| it != directory).map(|it| it.display().to_string()).collect();
        if !paths.is_empty() {
            uwsgi.env.push(("PYTHONPATH".to_owned(), paths.join(":")));
        }
        let maps = self.all(&["static-map"]).filter_map(|it| it.split_once('='));
        uwsgi.statics.extend(maps.map(|(prefix, folder)| Static {
            prefix: super::statics::prefix(prefix),
            folder: self.existing(folder, Path::is_dir).unwrap_or_else(|| directory.join(folder)),
            evidence: format!("static-map in {shown}"),
        }));
        uwsgi.notes.extend(self.untaken(&shown));
    }

    /// Lists settings that weren't converted, so that nothing is lost silently.
    fn untaken(&self, shown: &str) -> Option<String> {
        const TAKEN: [&str; 22] = [
            "module",
            "wsgi",
            "wsgi-file",
            "file",
            "callable",
            "chdir",
            "chdir2",
            "processes",
            "workers",
            "p",
            "threads",
            "virtualenv",
            "venv",
            "home",
            "pyhome",
            "pythonpath",
            "python-path",
            "pp",
            "static-map",
            "base",
            "project",
            "ini",
        ];
        let mut left: Vec<_> = self.values.iter().map(|(key, _)| key.as_str()).collect();
        left.retain(|it| !TAKEN.contains(it) && !DONE_OTHERWISE.contains(it));
        left.dedup();
        left.truncate(MAX_TOLD);
        (!left.is_empty()).then(|| {
            format!("{shown} also sets {}: see \"From nginx + uWSGI\" in the documentation", left.join(", "))
        })
    }
}
