//! Why emperord refuses a request of the operator.

use std::path::PathBuf;

use api::VassalName;

/// Why an operator's request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is no such app.
    #[error("there is no app `{app}`: {known}")]
    NoSuchApp {
        /// The requested name.
        app: VassalName,
        /// A sentence that lists the existing apps.
        known: String,
    },
    /// Its file is invalid.
    #[error("{0}")]
    File(String),
    /// Its file can't be edited.
    #[error("{0}")]
    Scale(String),
    /// Its workers fail to start.
    #[error("{0}")]
    Start(String),
    /// Its file isn't missing.
    #[error("the file of app `{app}` is not missing: delete {} to stop the app", file.display())]
    NotMissing {
        /// The app.
        app: VassalName,
        /// Its file.
        file: PathBuf,
    },
    /// Its file was deleted meanwhile.
    #[error("app `{0}` was removed")]
    Removed(VassalName),
    /// Its file now asks for another number of workers.
    #[error("`workers` of app `{app}` is {workers} now: its file was changed again")]
    Superseded {
        /// The app.
        app: VassalName,
        /// The number that its file asks for now.
        workers: u16,
    },
    /// emperord is shutting down.
    #[error("emperord is shutting down")]
    ShuttingDown,
}
