//! Prints progress messages.

use std::io::{IsTerminal as _, stderr};

/// Prints a message with a heading.
#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
pub(crate) fn print_line(heading: &str, what: &str) {
    if stderr().is_terminal() {
        eprintln!("\x1b[1;36m{heading:>10}\x1b[0m {what}");
    } else {
        eprintln!("{heading:>10} {what}");
    }
}
