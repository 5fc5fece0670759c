//! Where files are installed: paths below the archive's prefix, and below `/usr` in the package.

/// The folder of the documentation.
pub(crate) const DOC: &str = "share/doc/imperium";
/// The folder of the daemons and the extension.
pub(crate) const PRIVATE: &str = "lib/imperium";
/// The only program for users.
pub(crate) const COMMAND: &str = "imperium";
