//! An app that was found in a project, and what was learned about it on the way.

use std::path::{Path, PathBuf};

use super::interface::Interface;
use super::project::Module;
use super::python_path::lookup;

/// An app, and how it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Such as `Flask`, or `WSGI` or `ASGI` if the framework is unknown.
    pub(crate) framework: &'static str,
    pub(crate) interface: Interface,
    /// The value of `app`.
    pub(crate) app: String,
    /// The folder that comes first in `sys.path`.
    pub(crate) directory: PathBuf,
    /// Where the app was found, and how.
    pub(crate) evidence: String,
    /// The file that contains it, if it is in the project.
    pub(crate) module: Option<PathBuf>,
    /// The settings, if it is a Django project.
    pub(crate) settings: Option<Settings>,
    /// uWSGI's file, if it names the app.
    pub(crate) uwsgi: Option<Uwsgi>,
    /// The package that a Paste file names.
    pub(crate) egg: Option<String>,
    /// Another app that is equally likely.
    pub(crate) other: Option<String>,
    /// The ASGI app of the same project, if a WSGI app was chosen.
    pub(crate) asgi: Option<AsgiToo>,
}

/// The ASGI app of a project that has a WSGI app, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AsgiToo {
    /// The value of `app`.
    pub(crate) app: String,
    /// The files of both, for messages.
    pub(crate) wsgi_file: PathBuf,
    pub(crate) asgi_file: PathBuf,
    /// Whether it has more than HTTP, such as the WebSockets of Channels.
    pub(crate) has_channels: bool,
}

impl AsgiToo {
    /// Which of both to serve if nobody says so: WSGI, unless that would leave something out.
    pub(crate) fn usual(&self) -> Interface {
        if self.has_channels { Interface::Asgi } else { Interface::Open }
    }
}

impl Found {
    pub(crate) fn new(framework: &'static str, app: &str, directory: &Path, evidence: String) -> Self {
        Self {
            framework,
            interface: Interface::Open,
            app: app.to_owned(),
            directory: directory.to_owned(),
            evidence,
            module: None,
            settings: None,
            uwsgi: None,
            egg: None,
            other: None,
            asgi: None,
        }
    }

    /// Chooses the ASGI app of a project that has both, if its WSGI app would leave something out.
    pub(crate) fn choose_usual(self) -> Self {
        match self.asgi.as_ref().map(AsgiToo::usual) {
            Some(Interface::Asgi) => self.choose(Interface::Asgi),
            _ => self,
        }
    }

    /// Chooses the WSGI or the ASGI app of a project that has both.
    pub(crate) fn choose(self, interface: Interface) -> Self {
        match (&self.asgi, interface) {
            (Some(asgi), Interface::Asgi) => Self { app: asgi.app.clone(), interface, asgi: None, ..self },
            _ => Self { asgi: None, ..self },
        }
    }
}

/// The settings that a project is served with.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// The value for `DJANGO_SETTINGS_MODULE`.
    pub(crate) name: String,
    /// Why these were chosen, if `[env]` has to set them.
    pub(crate) chosen: Option<String>,
    /// What the operator has to know.
    pub(crate) note: Option<String>,
    /// The settings module and those it imports from. Earlier ones override later ones.
    pub(crate) modules: Vec<Module>,
}

impl Settings {
    /// Returns the value of a setting, and the module that sets it.
    pub(crate) fn get(&self, name: &str) -> Option<(&Module, &str)> {
        lookup(&self.modules, name)
    }

    /// Returns the module that contains `text` in one of its statements.
    pub(crate) fn mention(&self, text: &str) -> Option<&Module> {
        self.modules.iter().find(|it| it.statements().iter().any(|it| it.text.contains(text)))
    }
}

/// The settings of a uWSGI file, apart from the app itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uwsgi {
    /// Its path, for messages.
    pub(crate) file: String,
    pub(crate) workers: Option<u16>,
    pub(crate) threads: Option<u16>,
    pub(crate) virtualenv: Option<PathBuf>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) statics: Vec<Static>,
    pub(crate) notes: Vec<String>,
}

/// A folder of static files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Static {
    /// Such as `/static/`.
    pub(crate) prefix: String,
    pub(crate) folder: PathBuf,
    /// Where it was found.
    pub(crate) evidence: String,
}
