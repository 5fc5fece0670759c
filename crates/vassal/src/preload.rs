//! Whether an app is imported once, and its processes are forked from there.

use config::{Wrong, value};
use toml_edit::Value;

/// Whether an app is imported once, and its processes are forked from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preload {
    /// Each process imports the app.
    #[default]
    Off,
    /// Imported once. Refused if the import starts threads.
    On,
    /// Imported once. The app restarts the threads of its import in each forked process by itself.
    WithThreads,
}

const EXAMPLE: &str = "write `preload = true`, or `preload = { threads = \"allow\" }` for an app whose threads start \
                       again in a forked process";

impl Preload {
    /// Reads `true`, `false`, or a table with the key `threads`.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is anything else.
    pub(crate) fn read(value: &Value) -> Result<Self, Wrong> {
        let Some(table) = value.as_inline_table() else {
            return value::boolean(value).map(|on| if on { Self::On } else { Self::Off });
        };
        let mut preload = Self::On;
        for (key, value) in table {
            preload = match (key, value.as_str()) {
                ("threads", Some("allow")) => Self::WithThreads,
                ("threads", Some("refuse")) => Self::On,
                ("threads", _) => {
                    return Err(
                        Wrong::new("has a `threads` that is neither \"allow\" nor \"refuse\"").hint(EXAMPLE)
                    );
                }
                (key, _) => return Err(Wrong::new(format!("has no key `{key}`")).hint(EXAMPLE)),
            };
        }
        Ok(preload)
    }

    /// Whether preloading is enabled.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Self::Off
    }
}
