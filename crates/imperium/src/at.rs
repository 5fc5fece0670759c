//! Which installation a command is about.

use std::env;
use std::path::{Path, PathBuf};

use config::{EmperordConfig, Layout};
use miette::IntoDiagnostic as _;

use crate::refused::Refused;

/// Names an installation; without these, `IMPERIUM_ROOT` names the root, and without that it is the system's.
#[derive(Debug, clap::Args)]
pub(crate) struct At {
    /// The folder that was given to `imperium up --root` [default: $IMPERIUM_ROOT, or the installed system]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The socket of emperord, if it isn't in its usual place
    #[arg(long, value_name = "SOCKET", conflicts_with = "root")]
    emperord: Option<PathBuf>,
}

impl At {
    /// The folders of that installation.
    pub(crate) fn layout(&self) -> miette::Result<Layout> {
        let root = self.root.clone().or_else(root_from_env);
        root.map_or_else(|| Ok(Layout::system()), |root| Layout::under(&root).into_diagnostic())
    }

    /// The socket that emperord answers on.
    pub(crate) fn socket(&self) -> miette::Result<PathBuf> {
        if let Some(socket) = &self.emperord {
            return Ok(socket.clone());
        }
        let config = EmperordConfig::load(&self.layout()?, Path::new("workerd"));
        Ok(config.map_err(|it| Refused::new("emperord.toml", it))?.socket)
    }
}

/// `IMPERIUM_ROOT`, if it is set.
pub(crate) fn root_from_env() -> Option<PathBuf> {
    env::var_os("IMPERIUM_ROOT").filter(|it| !it.is_empty()).map(PathBuf::from)
}
