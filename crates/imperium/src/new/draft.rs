//! What a project's vassal file shall say, and why: from its folder to the text.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::VassalName;
use config::Wrong;
use toml_edit::Value;

use super::find::{self, Found};
use super::project::{Module, modules};
use super::statics::{self, Static};
use super::virtualenv::{self, Virtualenv};

/// What a file shall say.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    name: VassalName,
    found: Found,
    directory: PathBuf,
    python: Option<Virtualenv>,
    domains: Domains,
    statics: Vec<Static>,
}

/// The hosts, and who says so.
#[derive(Clone, Debug)]
enum Domains {
    Given(Vec<String>),
    Allowed(Vec<String>),
    None,
}

impl Draft {
    /// Looks at a project's folder, which is absolute.
    ///
    /// # Errors
    /// When there is no app in it.
    pub(crate) fn new(project: &Path, name: VassalName, domains: &[String]) -> Result<Self, Wrong> {
        let directory = source_folder(project);
        let modules = modules(&directory);
        let found = find::find(&directory, &modules)?;
        let settings = django_settings(&modules);
        let allowed = settings.map(statics::allowed_hosts).unwrap_or_default();
        Ok(Self {
            name,
            python: virtualenv::find(&[project, &directory]),
            domains: match (domains.is_empty(), allowed.is_empty()) {
                (false, _) => Domains::Given(domains.to_owned()),
                (true, false) => Domains::Allowed(allowed),
                (true, true) => Domains::None,
            },
            statics: static_folders(&directory, &found, settings, &modules),
            found,
            directory,
        })
    }

    /// What the operator has to do before it serves, as far as can be seen.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.python {
            Some(python) => notes.extend(python.lacks(self.found.framework)),
            None => notes.push(format!(
                "there is no virtualenv: make one by `python3 -m venv {}/.venv`, install what the app needs into it, \
                 and set python",
                self.directory.display()
            )),
        }
        for missing in self.statics.iter().filter(|it| !it.folder.is_dir()) {
            let folder = missing.folder.display();
            notes.push(format!("{folder} is not there: run collectstatic, and take the `#` from [static]"));
        }
        if let Domains::None = self.domains {
            notes.push("no domain was given: set domains to the hosts of the site".to_owned());
        }
        notes
    }

    /// Why no worker may run for it under systemd, if so.
    pub(crate) fn is_roots(&self) -> bool {
        self.directory.metadata().is_ok_and(|it| it.uid() == 0)
    }

    /// The folder that the app is in.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// `src`, where a project keeps its packages in it.
fn source_folder(project: &Path) -> PathBuf {
    let source = project.join("src");
    let is_plain = |folder: &Path| {
        ["manage.py", "wsgi.py", "app.py", "main.py"].iter().any(|name| folder.join(name).is_file())
    };
    match source.is_dir() && !source.join("__init__.py").exists() && !is_plain(project) {
        true => source,
        false => project.to_owned(),
    }
}

/// The module that `manage.py` names.
fn django_settings(modules: &[Module]) -> Option<&Module> {
    let manage = modules.iter().find(|it| it.path == Path::new("manage.py"))?;
    let path = format!("{}.py", find::settings_module(manage)?.replace('.', "/"));
    modules.iter().find(|it| it.path == Path::new(&path))
}

fn static_folders(
    directory: &Path,
    found: &Found,
    settings: Option<&Module>,
    modules: &[Module],
) -> Vec<Static> {
    match found.framework {
        "Django" => settings.and_then(|it| statics::django(directory, it)).into_iter().collect(),
        "Flask" => statics::flask(directory, modules).into_iter().collect(),
        "Pyramid" => statics::pyramid(directory, modules),
        _ => Vec::new(),
    }
}

/// The text of the file: each setting below the reason for it.
impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, directory, python, domains, statics } = self;
        writeln!(f, "# The app {name}, in {}.\n", directory.display())?;
        domains.write(name, f)?;
        writeln!(f, "# {}: {}", found.framework, found.evidence)?;
        writeln!(f, "app = {}", text(&found.app))?;
        writeln!(f, "directory = {}\n", path(directory))?;
        write_python(python.as_ref(), directory, f)?;
        writeln!(f, "# Processes; `imperium scale {name} N` changes it while the app runs.\nworkers = 2")?;
        write_statics(statics, f)
    }
}

fn write_python(python: Option<&Virtualenv>, directory: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Virtualenv { path: folder, version }) = python else {
        let usual = path(&directory.join(".venv"));
        return writeln!(
            f,
            "# No virtualenv is in the folder, so python3 of PATH runs it.\n#python = {usual}\n"
        );
    };
    let of = if version.is_empty() { String::new() } else { format!(" of Python {version}") };
    writeln!(f, "# A virtualenv{of}.\npython = {}\n", path(folder))
}

fn write_statics(statics: &[Static], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if statics.is_empty() {
        return Ok(());
    }
    let all_there = statics.iter().all(|it| it.folder.is_dir());
    let comment = if all_there { "" } else { "#" };
    writeln!(f, "\n# Served straight from disk.\n{comment}[static]")?;
    for Static { prefix, folder, evidence } in statics {
        let comment = if folder.is_dir() && all_there { "" } else { "#" };
        writeln!(f, "# {evidence}\n{comment}{} = {}", text(prefix), path(folder))?;
    }
    Ok(())
}

impl Domains {
    fn write(&self, name: &VassalName, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, domains) = match self {
            Self::Given(domains) => ("The hosts that it answers for, as they were given.", domains.clone()),
            Self::Allowed(domains) => {
                ("The hosts that it answers for: ALLOWED_HOSTS of its settings.", domains.clone())
            }
            Self::None => (
                "The hosts that it answers for. This one is for a try on the same machine.",
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

/// As TOML writes it.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}
