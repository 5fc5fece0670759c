//! Drafts a project's vassal file, with the reason for each setting.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::VassalName;
use config::Wrong;
use toml_edit::Value;
use vassal::App;

use super::django;
use super::find;
use super::found::{AsgiToo, Found, Static, Uwsgi};
use super::interface::{self, Interface};
use super::paste;
use super::project::{Module, Project};
use super::statics::{self, Statics};
use super::virtualenv::{self, Virtualenv};
use crate::app_name::app_name;

/// The content of a vassal file.
#[derive(Debug)]
pub(crate) struct Draft {
    name: VassalName,
    /// The project's folder.
    project: PathBuf,
    found: Found,
    python: Option<Virtualenv>,
    domains: Domains,
    statics: Statics,
    /// The file, for a comment, that needs requests of a client to reach the same worker again.
    sticky: Option<PathBuf>,
}

/// What to inspect.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A folder and everything in it.
    Folder,
    /// One file, in the project's folder or below.
    File(PathBuf),
    /// The app that the operator named.
    App(App),
}

/// The hosts, and where they come from.
#[derive(Clone, Debug)]
enum Domains {
    Given(Vec<String>),
    Allowed(Vec<String>),
    None,
}

impl Draft {
    /// Inspects a project's folder, whose path is absolute. `choose` is asked if the project has a WSGI and an ASGI app.
    ///
    /// # Errors
    /// If it contains no app, or a name can't be made for the app.
    pub(crate) fn new(
        folder: &Path,
        source: &Source,
        name: Option<VassalName>,
        domains: &[String],
        choose: impl Fn(&AsgiToo) -> Option<Interface>,
    ) -> Result<Self, Wrong> {
        let project = Project::look(folder);
        let nearby = virtualenv::find(&[folder]);
        let found = match source {
            Source::Folder => find::find(&project, nearby.as_ref())?,
            Source::File(file) => find::in_file(&project, file)?,
            Source::App(app) => find::named(&project, app),
        };
        let is_given = match source {
            Source::Folder => false,
            Source::File(file) => found.module.as_ref() == Some(file),
            Source::App(_) => true,
        };
        let chosen = match &found.asgi {
            Some(_) if is_given => Some(Interface::Open),
            Some(asgi) => choose(asgi),
            None => None,
        };
        let found = match chosen {
            Some(interface) => found.choose(interface),
            None => found.choose_usual(),
        };
        // A configuration file may be anywhere.
        let is_named_elsewhere = matches!(source, Source::File(_)) && !found.directory.starts_with(folder);
        let folder = if is_named_elsewhere { &found.directory.clone() } else { folder };
        let name = name.or_else(|| app_name(&folder.file_name()?.to_string_lossy()));
        let name = name.ok_or_else(|| {
            Wrong::new(format!("the app can't be named after {}", folder.display()))
                .hint("choose a name with `--name`")
        })?;
        let allowed = found.settings.as_ref().map(django::allowed_hosts).unwrap_or_default();
        let by_uwsgi = found.uwsgi.as_ref().and_then(|it| Virtualenv::at(it.virtualenv.as_deref()?));
        Ok(Self {
            name,
            project: folder.to_owned(),
            python: by_uwsgi.or_else(|| virtualenv::find(&[folder, &found.directory])),
            domains: match (domains.is_empty(), allowed.is_empty()) {
                (false, _) => Domains::Given(domains.to_owned()),
                (true, false) => Domains::Allowed(allowed),
                (true, true) => Domains::None,
            },
            statics: statics(&found, &project),
            sticky: project
                .modules
                .iter()
                .find(|it| interface::keeps_sessions(it))
                .map(|it| it.shown.clone()),
            found,
        })
    }

    /// What the operator has to do before the app can be served, as far as that can be seen.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.python {
            Some(python) => notes.extend(python.lacks(self.found.framework)),
            None => notes.push(format!(
                "no virtualenv was found: create one with `python3 -m venv {}/.venv`, install the app's dependencies \
                 in it, and set `python`",
                self.project.display()
            )),
        }
        if let (Some(egg), Some(python)) = (&self.found.egg, &self.python) {
            notes.extend(paste::missing(egg, &self.project, python));
        }
        for missing in self.statics.served.iter().filter(|it| !it.folder.is_dir()) {
            let folder = missing.folder.display();
            notes.push(match self.found.framework {
                "Django" => format!(
                    "{folder} doesn't exist yet: run `{}`, then uncomment [static]",
                    self.collectstatic()
                ),
                _ => format!(
                    "{folder} doesn't exist ({}): correct the path in [static], then uncomment it",
                    missing.evidence
                ),
            });
        }
        notes.extend(self.without_static_root());
        notes.extend(self.found.settings.iter().filter_map(|it| it.note.clone()));
        notes.extend(self.found.uwsgi.iter().flat_map(|it| it.notes.clone()));
        if let Some(AsgiToo { wsgi_file, asgi_file, app, .. }) = &self.found.asgi {
            notes.push(format!(
                "{} and {} both exist, and the first was chosen: async views run best with the second, with `app = \"{app}\"` and `interface = \"asgi\"`",
                wsgi_file.display(),
                asgi_file.display()
            ));
        }
        if let Some(other) = &self.found.other {
            notes.push(format!("{other} looks like an app too: to serve that one, pass its file"));
        }
        if let Domains::None = self.domains {
            notes.push("no domain was given: set `domains` to the hosts of the site".to_owned());
        }
        notes
    }

    /// Django's command that collects static files. It isn't run here, since it runs code of the project.
    fn collectstatic(&self) -> String {
        let python = self.python.as_ref().map(|it| it.path.join("bin/python"));
        let python = python.unwrap_or_else(|| "python3".into());
        let manage = self.found.directory.join("manage.py");
        format!("{} {} collectstatic", python.display(), manage.display())
    }

    /// What to do if Django has static files, but no setting says where to collect them.
    fn without_static_root(&self) -> Option<String> {
        let settings = self.found.settings.as_ref().filter(|_| self.found.framework == "Django")?;
        let module = settings.mention("django.contrib.staticfiles")?;
        let is_open = self.statics.served.is_empty() && self.statics.left.is_empty();
        (is_open && settings.get("STATIC_ROOT").is_none()).then(|| {
            let (shown, collect) = (module.shown.display(), self.collectstatic());
            let root = path(&self.found.directory.join("staticfiles"));
            let url = django::static_url(settings).unwrap_or_else(|| "/static/".to_owned());
            let line = format!("{} = {root}", text(&statics::prefix(&url)));
            format!(
                "nothing serves the static files, because {shown} doesn't set STATIC_ROOT: set it to {root}, run `{collect}`, and add \
                 `[static]` with the line `{line}`"
            )
        })
    }

    pub(crate) fn name(&self) -> &VassalName {
        &self.name
    }

    /// Whether root owns the app's folder: then no worker runs under systemd.
    pub(crate) fn is_roots(&self) -> bool {
        self.found.directory.metadata().is_ok_and(|it| it.uid() == 0)
    }

    /// The app's `directory`.
    pub(crate) fn directory(&self) -> &Path {
        &self.found.directory
    }

    fn uwsgi(&self) -> Option<&Uwsgi> {
        self.found.uwsgi.as_ref()
    }

    /// Name, value and reason of each environment variable.
    fn env(&self) -> Vec<(String, String, String)> {
        let by_uwsgi = self.uwsgi().into_iter().flat_map(|uwsgi| {
            let why = format!("Set in {}.", uwsgi.file);
            uwsgi.env.iter().map(move |(name, value)| (name.clone(), value.clone(), why.clone()))
        });
        let mut env: Vec<_> = by_uwsgi.collect();
        let named = "DJANGO_SETTINGS_MODULE";
        if let Some(settings) = &self.found.settings
            && let Some(why) = &settings.chosen
            && !env.iter().any(|(name, ..)| name == named)
        {
            env.push((named.to_owned(), settings.name.clone(), why.clone()));
        }
        env
    }
}

/// The project's static folders: those of uWSGI's file if it names any, otherwise those of the framework.
fn statics(found: &Found, project: &Project) -> Statics {
    let modules: Vec<&Module> =
        project.modules.iter().filter(|it| it.path.starts_with(&found.directory)).collect();
    let own = match found.framework {
        "Django" => found.settings.as_ref().map(|it| statics::django(&found.directory, it, &modules)),
        "Flask" => Some(statics::flask(&modules)),
        "Pyramid" => Some(statics::pyramid(&found.directory, &modules)),
        _ => Some(statics::other(&modules)),
    };
    match &found.uwsgi {
        Some(uwsgi) if !uwsgi.statics.is_empty() => {
            Statics { served: uwsgi.statics.clone(), left: Vec::new() }
        }
        _ => own.unwrap_or_default(),
    }
}

/// The text of the file: each setting follows a comment with the reason for it.
impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, python, domains, statics, sticky, .. } = self;
        writeln!(f, "# The app {name}, in {}.\n", self.project.display())?;
        domains.write(name, f)?;
        writeln!(f, "# {}: {}", found.framework, found.evidence)?;
        writeln!(f, "app = {}", text(&found.app))?;
        if found.interface == Interface::Asgi {
            writeln!(f, "interface = \"asgi\"")?;
        }
        writeln!(f, "directory = {}\n", path(&found.directory))?;
        write_python(python.as_ref(), &self.project, f)?;
        let of_uwsgi = self.uwsgi().filter(|it| it.workers.is_some());
        let why = of_uwsgi.map(|it| format!(" (as in {})", it.file)).unwrap_or_default();
        writeln!(
            f,
            "# Worker processes{why}. `imperium scale {name} N` changes the number while the app runs."
        )?;
        writeln!(f, "workers = {}", of_uwsgi.and_then(|it| it.workers).unwrap_or(2))?;
        let uwsgi = self.uwsgi().filter(|_| found.interface != Interface::Asgi);
        if let Some((threads, uwsgi)) = uwsgi.and_then(|it| Some((it.threads?, it))) {
            writeln!(f, "\n# Requests that each worker handles at the same time (as in {}).", uwsgi.file)?;
            writeln!(f, "threads = {threads}")?;
        }
        if let Some(file) = sticky {
            let shown = file.display();
            writeln!(
                f,
                "\n# Socket.IO ({shown}) keeps sessions in a worker's memory: a client needs the same one again."
            )?;
            writeln!(f, "sticky = \"cookie\"")?;
        }
        write_env(&self.env(), f)?;
        write_statics(statics, f)
    }
}

fn write_env(env: &[(String, String, String)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !env.is_empty() {
        writeln!(f, "\n[env]")?;
    }
    let mut last = "";
    for (name, value, why) in env {
        if why != last {
            writeln!(f, "# {why}")?;
        }
        last = why;
        writeln!(f, "{name} = {}", text(value))?;
    }
    Ok(())
}

fn write_python(python: Option<&Virtualenv>, project: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Virtualenv { path: folder, version }) = python else {
        let usual = path(&project.join(".venv"));
        return writeln!(
            f,
            "# The folder has no virtualenv, so python3 from PATH runs the app.\n#python = {usual}\n"
        );
    };
    let of = if version.is_empty() { String::new() } else { format!(" with Python {version}") };
    writeln!(f, "# A virtualenv{of}.\npython = {}\n", path(folder))
}

fn write_statics(statics: &Statics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for why in &statics.left {
        writeln!(f, "\n# No [static] line: {why}.")?;
        writeln!(f, "# frontd would send them without the headers or the compression that the app adds.")?;
    }
    let served = &statics.served;
    if served.is_empty() {
        return Ok(());
    }
    let all_there = served.iter().all(|it| it.folder.is_dir());
    let comment = if all_there { "" } else { "#" };
    writeln!(f, "\n# Files that frontd sends from disk, without the app.\n{comment}[static]")?;
    for Static { prefix, folder, evidence } in served {
        let comment = if folder.is_dir() && all_there { "" } else { "#" };
        writeln!(f, "# {evidence}\n{comment}{} = {}", text(prefix), path(folder))?;
    }
    Ok(())
}

impl Domains {
    fn write(&self, name: &VassalName, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, domains) = match self {
            Self::Given(domains) => ("The hosts of the app, as given by --domain.", domains.clone()),
            Self::Allowed(domains) => {
                ("The hosts of the app, from ALLOWED_HOSTS in its settings.", domains.clone())
            }
            Self::None => (
                "The hosts of the app. This one is only for trying it out on the same machine.",
                vec![format!("{}.localhost", name.as_str().replace('_', "-"))],
            ),
        };
        let list: Vec<_> = domains.iter().map(|it| text(it)).collect();
        writeln!(f, "# {why}\ndomains = [{}]\n", list.join(", "))
    }
}

fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// Quotes a TOML string.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}
