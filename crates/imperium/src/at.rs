//! Which installation a command acts on.

use std::env;
use std::path::{Path, PathBuf};

use config::{EmperordConfig, Layout};
use miette::IntoDiagnostic as _;

use crate::refused::Refused;
use crate::{home, running};

/// Selects an installation. Without these options, it is the root in `IMPERIUM_ROOT`, otherwise what this
/// user's `imperium up` runs, otherwise the system's.
#[derive(Debug, clap::Args)]
pub(crate) struct At {
    /// The folder that was given to `imperium up --root` [default: $IMPERIUM_ROOT, or what `imperium up` runs in this
    /// folder, or the installed system]
    #[arg(long, value_name = "DIR", value_parser = home::path())]
    root: Option<PathBuf>,
    /// The socket of emperord, if it isn't in its usual place
    #[arg(long, value_name = "SOCKET", conflicts_with = "root", value_parser = home::path())]
    emperord: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Installation {
    pub(crate) layout: Layout,
    /// The socket of its emperord.
    pub(crate) socket: PathBuf,
}

impl At {
    /// Finds the installation.
    ///
    /// # Errors
    /// If several stacks are running and none belongs to this folder, or if emperord.toml is invalid.
    pub(crate) fn find(&self) -> miette::Result<Installation> {
        let layout = self.layout()?;
        if let Some(socket) = &self.emperord {
            return Ok(Installation { layout, socket: socket.clone() });
        }
        let config = EmperordConfig::load(&layout, Path::new("workerd"));
        let socket = config.map_err(|it| Refused::new("emperord.toml", it))?.socket;
        Ok(Installation { layout, socket })
    }

    /// Returns the installation's folders.
    pub(crate) fn layout(&self) -> miette::Result<Layout> {
        match self.root.clone().or_else(root_from_env) {
            Some(root) => Layout::under(&root).into_diagnostic(),
            None if self.emperord.is_some() => Ok(Layout::system()),
            None => match running::choose()? {
                Some(running) => Layout::under(&running.root).into_diagnostic(),
                None => Ok(Layout::system()),
            },
        }
    }

    /// Returns the path of emperord's socket.
    pub(crate) fn socket(&self) -> miette::Result<PathBuf> {
        Ok(self.find()?.socket)
    }
}

/// `IMPERIUM_ROOT`, if it is set and not empty.
pub(crate) fn root_from_env() -> Option<PathBuf> {
    env::var_os("IMPERIUM_ROOT").filter(|it| !it.is_empty()).map(PathBuf::from)
}
