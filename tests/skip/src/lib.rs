//! Lets a test say that it can't run here, and why: `cargo xtask test` prints it at the end.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

/// The variable that names the file of skipped tests: a line per test, with package, test and reason
/// separated by tabs.
pub const SKIPPED: &str = "TEST_SKIPPED";

/// The reason that [`needs_root!`] records.
pub const NEEDS_ROOT: &str = "needs root";

/// Skips the calling test and records the reason, which is a format string with arguments.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        let test = ::std::any::type_name_of_val(&here);
        $crate::record(::core::env!("CARGO_PKG_NAME"), test, &::std::format!($($reason)+));
        return $crate::Skipped::skipped();
    }};
}

/// Skips the calling test unless it runs as root.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::is_root() {
            $crate::skip!("{}", $crate::NEEDS_ROOT);
        }
    };
}

/// Skips the calling test unless these programs are in `PATH`.
#[macro_export]
macro_rules! needs_program {
    ($name:literal) => {
        if !$crate::has_program($name) {
            $crate::skip!("needs the program {}", $name);
        }
    };
}

/// The return type of a test that can be skipped.
pub trait Skipped {
    /// The value that the test runner considers a success.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Whether a program is in `PATH`.
#[must_use]
pub fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Records a skipped test for [`skip!`], where `cargo xtask test` says. `here` is the path of an item in the test.
///
/// # Panics
/// When the file can't be written.
#[expect(clippy::print_stderr, reason = "a test that is run alone says why it did nothing")]
pub fn record(package: &str, here: &str, reason: &str) {
    let test = test_name(here);
    eprintln!("skipped {test}: {reason}");
    let Some(path) = env::var_os(SKIPPED) else { return };
    let line = format!("{package}\t{test}\t{reason}\n");
    let file = OpenOptions::new().append(true).create(true).open(&path);
    // One write, so that lines of several processes don't mix.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

/// The test's name as the test runner shows it: without its crate, and without what the macro adds.
fn test_name(here: &str) -> String {
    let parts = here.split("::").skip(1).filter(|part| !["here", "{{closure}}"].contains(part));
    parts.collect::<Vec<_>>().join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_names_are_those_of_the_runner() {
        fn here() {}
        let expected = "tests::test_names_are_those_of_the_runner";
        assert_eq!(test_name(std::any::type_name_of_val(&here)), expected);
        for (path, expected) in [
            ("it::users::an_app::{{closure}}::here", "users::an_app"),
            ("emperord::driver::tests::a::{{closure}}::{{closure}}::here", "driver::tests::a"),
        ] {
            assert_eq!(test_name(path), expected);
        }
    }
}
