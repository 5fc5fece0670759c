//! Sets up, and runs the program `demo`, which serves the apps, or checks that they are served.

use anyhow::ensure;
use xtask::setup;

use crate::program;

/// Accepts `--check`, or nothing.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let is_known = matches!(arguments, [] | [_]) && arguments.iter().all(|it| it == "--check");
    ensure!(is_known, "`cargo xtask demo` takes --check, not {}", arguments.join(" "));
    setup::run(&["demo"])?;
    program::become_it("demo", arguments)
}
