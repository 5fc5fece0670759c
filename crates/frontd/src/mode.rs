//! Whether error pages show internal details, for developers.

/// How much the error pages reveal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Error pages reveal nothing about the server.
    #[default]
    Production,
    /// Error pages list the configured hosts and show why an app failed.
    Development,
}

impl Mode {
    /// [`Mode::Development`] if `--development` was given.
    #[must_use]
    pub fn of_flag(development: bool) -> Self {
        if development { Self::Development } else { Self::Production }
    }

    /// Whether error pages show details for developers.
    #[must_use]
    pub fn is_development(self) -> bool {
        self == Self::Development
    }
}
