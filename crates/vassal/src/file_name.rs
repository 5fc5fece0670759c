//! Tells vassal files from everything else that lies in their folder.

use std::path::Path;

use api::{NameError, VassalName};

/// Why a file that ends in `.toml` cannot be a vassal's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// Its name is no app's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its name is not even text.
    #[error("the file's name is not UTF-8: rename it")]
    NotUtf8,
}

/// The name of the app whose file this is; None for hidden files, editors' and packagers' copies, and
/// whatever else does not end in `.toml`. Looks at the name alone.
#[must_use]
pub fn name_of(path: &Path) -> Option<Result<VassalName, FileNameError>> {
    let hidden = path.file_name()?.as_encoded_bytes().starts_with(b".");
    if hidden || path.extension()? != "toml" {
        return None;
    }
    let stem = path.file_stem()?.to_str().ok_or(FileNameError::NotUtf8);
    Some(stem.and_then(|stem| Ok(VassalName::parse(stem)?)))
}
