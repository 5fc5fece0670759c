//! What the stacks serve: an app, in a number of workers.

use std::path::PathBuf;

use tests::place::Place;

/// An app under `tests/apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    Bare,
    Flask,
    Django,
}

/// What a stack serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) app: App,
    pub(crate) workers: u32,
}

impl App {
    /// The name of the app's folder, of its vassal file, and in the names of cases.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Flask => "flask",
            Self::Django => "django",
        }
    }

    /// The name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare WSGI",
            Self::Flask => "Flask, a template",
            Self::Django => "Django, a template and a query",
        }
    }

    /// The callable, as `module:callable`.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Bare => "bench:application",
            Self::Flask => "app:app",
            Self::Django => "site_django.wsgi:application",
        }
    }

    /// Its working directory.
    pub(crate) fn directory(self, place: &Place) -> PathBuf {
        place.apps.join(if self == Self::Bare { "wsgi" } else { self.name() })
    }

    /// The app's environment variables.
    pub(crate) fn env(self, place: &Place) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Bare | Self::Flask => Vec::new(),
            Self::Django => {
                vec![("DJANGO_DB", place.django_database()), ("DJANGO_STATIC_ROOT", place.django_static())]
            }
        }
    }

    /// A text that its page must contain.
    pub(crate) fn greeting(self) -> &'static str {
        match self {
            Self::Bare => "Hello, world",
            Self::Flask => "<h1>Flask on Imperium</h1>",
            Self::Django => "<h1>Django on Imperium</h1>",
        }
    }
}
