//! Sets up, and has the program `demo` serve, or check that it serves.

use anyhow::ensure;
use xtask::setup;

use crate::program;

/// Takes `--check`, or nothing.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let is_known = matches!(arguments, [] | [_]) && arguments.iter().all(|it| it == "--check");
    ensure!(is_known, "`cargo xtask demo` takes --check, not {}", arguments.join(" "));
    setup::run(&["demo"])?;
    program::become_it("demo", arguments)
}
