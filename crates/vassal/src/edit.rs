//! Writes the number of workers into a vassal file, and leaves all the rest as the operator wrote it.

use toml_edit::{DocumentMut, TomlError, value};

use crate::{MAX_WORKERS, Vassal};

/// Why the number of workers cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetWorkersError {
    /// It is out of bounds.
    #[error("{0} workers are not possible: choose from 1 to {MAX_WORKERS}")]
    Count(u32),
    /// The text is not TOML, so that nothing can be written into it safely.
    #[error("the file is not TOML: repair it first")]
    Syntax(#[from] TomlError),
}

impl Vassal {
    /// The text with `workers = count` in it; comments, order and spacing are kept.
    ///
    /// # Errors
    /// When `count` is out of bounds or the text is not TOML.
    pub fn set_workers(text: &str, count: u32) -> Result<String, SetWorkersError> {
        if count == 0 || count > u32::from(MAX_WORKERS) {
            return Err(SetWorkersError::Count(count));
        }
        let mut document: DocumentMut = text.parse()?;
        let mut workers = value(i64::from(count));
        if let (Some(new), Some(old)) =
            (workers.as_value_mut(), document.get("workers").and_then(|it| it.as_value()))
        {
            // The decor holds the spaces and the comment around it.
            *new.decor_mut() = old.decor().clone();
        }
        document["workers"] = workers;
        Ok(document.to_string())
    }
}
