//! What is compared: Imperium, and nginx in front of other app servers.

use std::fmt;

/// A whole stack, from the client's connection to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Imperium,
    /// nginx in front of this server.
    Nginx(Server),
}

/// An app server behind nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    Uwsgi,
    Gunicorn,
    Granian,
}

impl Side {
    /// What Imperium replaces.
    pub(crate) const UWSGI: Self = Self::Nginx(Server::Uwsgi);
    pub(crate) const GUNICORN: Self = Self::Nginx(Server::Gunicorn);
    pub(crate) const GRANIAN: Self = Self::Nginx(Server::Granian);
    /// In the order of their runs.
    pub(crate) const ALL: [Self; 4] = [Self::UWSGI, Self::Imperium, Self::GUNICORN, Self::GRANIAN];

    /// Its name in JSON.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Imperium => "imperium".to_owned(),
            Self::Nginx(server) => format!("nginx_{}", server.program()),
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
        }
    }

    /// The measured version on PyPI.
    pub(crate) fn requirement(self) -> &'static str {
        match self {
            Self::Uwsgi => "uWSGI==2.0.31",
            Self::Gunicorn => "gunicorn==27.0.1",
            Self::Granian => "granian==2.8.7",
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
        })
    }
}
