//! What is compared: Imperium, and nginx or Caddy in front of other app servers.

use std::fmt;

/// A whole stack, from the client's connection to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Imperium,
    /// nginx in front of this server.
    Nginx(Server),
    /// Caddy in front of uvicorn.
    Caddy,
}

/// An app server behind nginx or Caddy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Uwsgi,
    Gunicorn,
    /// For WSGI and ASGI.
    Granian,
    Uvicorn,
}

impl Side {
    /// What Imperium replaces.
    pub(crate) const UWSGI: Self = Self::Nginx(Server::Uwsgi);
    pub(crate) const GUNICORN: Self = Self::Nginx(Server::Gunicorn);
    pub(crate) const GRANIAN: Self = Self::Nginx(Server::Granian);
    pub(crate) const UVICORN: Self = Self::Nginx(Server::Uvicorn);
    /// In the order of reports.
    pub(crate) const ALL: [Self; 6] =
        [Self::UWSGI, Self::UVICORN, Self::Imperium, Self::GUNICORN, Self::GRANIAN, Self::Caddy];
    /// Those that run WSGI apps, in the order of their runs.
    pub(crate) const WSGI: [Self; 4] = [Self::UWSGI, Self::Imperium, Self::GUNICORN, Self::GRANIAN];
    /// Those that run ASGI apps, in the order of their runs.
    pub(crate) const ASGI: [Self; 4] = [Self::UVICORN, Self::Imperium, Self::GRANIAN, Self::Caddy];

    /// Its name in JSON.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Imperium => "imperium".to_owned(),
            Self::Nginx(server) => format!("nginx_{}", server.program()),
            Self::Caddy => "caddy_uvicorn".to_owned(),
        }
    }
}

impl Server {
    /// The name of its program in the virtualenv.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Uwsgi => "uwsgi",
            Self::Gunicorn => "gunicorn",
            Self::Granian => "granian",
            Self::Uvicorn => "uvicorn",
        }
    }

    /// The measured versions on PyPI, of the server and what it runs on, which is the same for all and for the
    /// tests' apps.
    pub(crate) fn requirements(self) -> &'static [&'static str] {
        match self {
            Self::Uwsgi => &["uWSGI==2.0.31"],
            Self::Gunicorn => &["gunicorn==27.0.1"],
            Self::Granian => &["granian==2.8.7", "uvloop==0.23.0"],
            Self::Uvicorn => &["uvicorn==0.54.0", "httptools==0.9.0", "uvloop==0.23.0", "websockets==16.1.1"],
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Imperium => "Imperium",
            Self::Nginx(Server::Uwsgi) => "nginx + uWSGI",
            Self::Nginx(Server::Gunicorn) => "nginx + gunicorn",
            Self::Nginx(Server::Granian) => "nginx + granian",
            Self::Nginx(Server::Uvicorn) => "nginx + uvicorn",
            Self::Caddy => "Caddy + uvicorn",
        })
    }
}
