//! Runs all tests, and lists those that were skipped.

mod skipped;

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use place::Place;
use xtask::{root, setup, step};

use skipped::Skipped;

/// Sets up, and runs the tests with nextest, if it is installed. Skipped tests are listed at the end, even if
/// other tests fail. With `--skipped`, it is a failure if a test is skipped again because it needs root.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let path = root().join("target/skipped-tests");
    let mut runner = Runner::find();
    let runs_skipped = matches!(arguments, [option] if option == "--skipped");
    match arguments {
        _ if runs_skipped => {
            let text = fs::read_to_string(&path);
            let text = text.context("find what the last run skipped: run `cargo xtask test`")?;
            let skipped = Skipped::parse(&text);
            ensure!(!skipped.is_empty(), "the last run skipped no test");
            runner.only(&skipped);
        }
        [separator, passed_on @ ..] if separator == "--" => runner.pass_on(passed_on),
        passed_on => runner.pass_on(passed_on),
    }
    let place = setup::run(&[])?;
    fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
    runner.configure(&place).env(skip::SKIPPED, &path);
    let ran = step::step("test", "build the tests, and run them", || {
        let status = runner.command.status().context("run the tests")?;
        ensure!(status.success(), "tests failed");
        Ok(())
    });
    let text = fs::read_to_string(&path).unwrap_or_default();
    let skipped = Skipped::parse(&text);
    step::print_line("skipped", &skipped.to_string());
    ran?;
    ensure!(
        !(runs_skipped && skipped.needs_root()),
        "tests were skipped again, because they need root: run `cargo xtask test --skipped` as root"
    );
    Ok(())
}

struct Runner {
    command: Command,
    is_nextest: bool,
}

impl Runner {
    fn find() -> Self {
        let is_nextest = has_nextest();
        let mut command = step::cargo();
        match is_nextest {
            true => command.args(["nextest", "run", "--workspace", "--no-fail-fast"]),
            false => command.args(["test", "--workspace", "--no-fail-fast", "--"]),
        };
        Self { command, is_nextest }
    }

    fn pass_on(&mut self, arguments: &[String]) {
        self.command.args(arguments);
    }

    /// Runs only these tests.
    fn only(&mut self, skipped: &Skipped<'_>) {
        if self.is_nextest {
            self.command.args(["-E", &skipped.filter()]);
        } else {
            self.command.arg("--exact").args(skipped.tests());
        }
    }

    fn configure(&mut self, place: &Place) -> &mut Command {
        self.command.env(place::BINARIES, &place.binaries);
        self.command.env(place::VENV, &place.venv);
        self.command.env(place::KEPT, &place.kept)
    }
}

fn has_nextest() -> bool {
    let mut version = step::cargo();
    version.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
