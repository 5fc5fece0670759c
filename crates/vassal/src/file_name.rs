//! Recognizes app files in their folder.

use std::path::Path;

use api::{NameError, VassalName};

/// Why the name of a `.toml` file isn't valid for an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// It isn't a valid app name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It isn't UTF-8.
    #[error("the file's name isn't UTF-8: rename it")]
    NotUtf8,
}

/// The name of the app that this file belongs to. `None` for hidden files, backups of editors and package
/// managers, and everything else that doesn't end in `.toml`. Only looks at the name.
#[must_use]
pub fn name_of(path: &Path) -> Option<Result<VassalName, FileNameError>> {
    let hidden = path.file_name()?.as_encoded_bytes().starts_with(b".");
    if hidden || path.extension()? != "toml" {
        return None;
    }
    let stem = path.file_stem()?.to_str().ok_or(FileNameError::NotUtf8);
    Some(stem.and_then(|stem| Ok(VassalName::parse(stem)?)))
}
