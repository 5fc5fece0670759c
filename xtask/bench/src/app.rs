//! What the stacks serve: an app, in a number of workers.

use std::path::PathBuf;

use tests::place::Place;

/// An app under `tests/apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    Bare,
    Flask,
    Django,
    /// Without a framework, with streams and WebSockets.
    Asgi,
    FastApi,
}

/// What a stack serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) app: App,
    pub(crate) workers: u32,
    /// How many requests and WebSockets a worker handles at once, for servers that limit it. None is their
    /// default.
    pub(crate) concurrency: Option<u32>,
}

impl Scene {
    pub(crate) const fn new(app: App, workers: u32) -> Self {
        Self { app, workers, concurrency: None }
    }
}

impl App {
    /// The name of the app's folder, of its vassal file, and in the names of cases.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Flask => "flask",
            Self::Django => "django",
            Self::Asgi => "asgi",
            Self::FastApi => "fastapi",
        }
    }

    /// The name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare WSGI",
            Self::Flask => "Flask, a template",
            Self::Django => "Django, a template and a query",
            Self::Asgi => "bare ASGI",
            Self::FastApi => "FastAPI, a model as JSON",
        }
    }

    /// The callable, as `module:callable`.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Bare => "bench:application",
            Self::Flask => "app:app",
            Self::Django => "site_django.wsgi:application",
            Self::Asgi => "bench:application",
            Self::FastApi => "fastapi_bench:app",
        }
    }

    /// Its working directory.
    pub(crate) fn directory(self, place: &Place) -> PathBuf {
        place.apps.join(match self {
            Self::Bare => "wsgi",
            Self::Asgi | Self::FastApi => "asgi",
            Self::Flask | Self::Django => self.name(),
        })
    }

    /// Whether it is called by ASGI, not by WSGI.
    pub(crate) fn is_asgi(self) -> bool {
        matches!(self, Self::Asgi | Self::FastApi)
    }

    /// The app's environment variables.
    pub(crate) fn env(self, place: &Place) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Bare | Self::Flask | Self::Asgi | Self::FastApi => Vec::new(),
            Self::Django => {
                vec![("DJANGO_DB", place.django_database()), ("DJANGO_STATIC_ROOT", place.django_static())]
            }
        }
    }

    /// A text that its page must contain.
    pub(crate) fn greeting(self) -> &'static str {
        match self {
            Self::Bare | Self::Asgi => "Hello, world",
            Self::Flask => "<h1>Flask on Imperium</h1>",
            Self::Django => "<h1>Django on Imperium</h1>",
            Self::FastApi => "\"total\":1000",
        }
    }
}
