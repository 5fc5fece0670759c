//! The apps that every side serves.

use std::path::PathBuf;

use tests::place::Place;

/// An app under `tests/apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    Bare,
    Flask,
    Django,
}

impl App {
    /// Its folder, its name among vassals and in the names of cases.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Flask => "flask",
            Self::Django => "django",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare WSGI",
            Self::Flask => "Flask, a template",
            Self::Django => "Django, a template and a query",
        }
    }

    /// As every server calls it, `module:callable`.
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

    /// What it is told by the environment.
    pub(crate) fn env(self, place: &Place) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Bare | Self::Flask => Vec::new(),
            Self::Django => {
                vec![("DJANGO_DB", place.django_database()), ("DJANGO_STATIC_ROOT", place.django_static())]
            }
        }
    }

    /// What its page must show.
    pub(crate) fn greeting(self) -> &'static str {
        match self {
            Self::Bare => "Hello, world",
            Self::Flask => "<h1>Flask on Imperium</h1>",
            Self::Django => "<h1>Django on Imperium</h1>",
        }
    }
}
