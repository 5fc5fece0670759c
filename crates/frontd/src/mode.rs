//! Whether error pages may show a developer what goes on inside.

/// Where frontd runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Pages say nothing of the inside.
    #[default]
    Production,
    /// Pages help the developer: they list the hosts that exist, and show why an app failed.
    Development,
}

impl Mode {
    /// [`Mode::Development`] if `--development` was given.
    #[must_use]
    pub fn of_flag(development: bool) -> Self {
        if development { Self::Development } else { Self::Production }
    }

    /// Whether a developer is shown more.
    #[must_use]
    pub fn is_development(self) -> bool {
        self == Self::Development
    }
}
