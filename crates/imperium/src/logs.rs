//! `imperium logs`: shows the log of `imperium up`, or systemd's journal.

mod file;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use config::Layout;
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};

use self::file::{Lines, Tail};
use crate::at::At;

/// How often to check for new lines, and whether `imperium up` is still running.
const TICK: Duration = Duration::from_millis(200);

/// Show what the apps and the daemons have logged
///
/// Under systemd, this is the journal of their units. `imperium up` keeps the last one to two megabytes of its log in a
/// file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    /// Show only lines about this app
    app: Option<String>,
    /// Keep printing new lines
    #[arg(short, long)]
    follow: bool,
    /// The number of last lines to print first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("read {}: no `imperium up` has logged there", .0.display())]
#[diagnostic(help("start it, or name the folder that it was given: --root DIR"))]
struct NoLog(PathBuf);

/// Prints the lines. With `--follow`, continues until `imperium up` has exited or nobody reads the output any
/// more.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let layout = args.at.layout()?;
    if layout == Layout::system() {
        let error = journalctl(args).exec();
        return Err(error)
            .into_diagnostic()
            .wrap_err("run journalctl, which has the logs of systemd's units");
    }
    let path = layout.run.join("log");
    let mut out = io::stdout().lock();
    let colors = daemon::logging::has_color(&out);
    let mut lines = Lines::new(args.app.as_deref(), colors);
    let mut tail = Tail::open(&path).map_err(|_| NoLog(path.clone()))?;
    let text = tail.last(args.lines, &mut lines).into_diagnostic()?;
    let mut alive = write(&mut out, &text)?;
    while alive && args.follow {
        let runs = is_locked(&layout);
        let text: String = tail.more().into_diagnostic()?.iter().filter_map(|it| lines.shown(it)).collect();
        alive = write(&mut out, &text)? && runs;
        pause();
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::disallowed_methods,
    reason = "neither the file nor `imperium up` says when something is new"
)]
fn pause() {
    std::thread::sleep(TICK);
}

/// Returns false if the reader has gone, which is no error: `head` exits once it has enough.
fn write(out: &mut impl io::Write, text: &str) -> miette::Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        done => done.into_diagnostic().map(|()| true),
    }
}

/// Whether `imperium up` is running, which holds the lock.
fn is_locked(layout: &Layout) -> bool {
    let file = std::fs::File::open(layout.run.join("up.lock"));
    file.is_ok_and(|it| matches!(it.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

fn journalctl(args: &Args) -> Command {
    let mut command = Command::new("journalctl");
    let units = match &args.app {
        Some(app) => vec![format!("workerd@{app}-*.service")],
        None => ["workerd@*.service", "frontd@*.service", "emperord.service"].map(str::to_owned).into(),
    };
    units.iter().for_each(|unit| {
        command.arg("--unit").arg(unit);
    });
    command.args(["--lines", &args.lines.to_string()]);
    if args.follow {
        command.arg("--follow");
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn journalctl_is_called_with_the_units() {
        let command = |words: &[&str]| {
            let args = Cli::parse_from([&["logs"], words].concat()).args;
            let command = journalctl(&args);
            command.get_args().map(|it| it.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(command(&["blog", "-f"]), "--unit workerd@blog-*.service --lines 100 --follow");
        assert_eq!(
            command(&["-n", "5"]),
            "--unit workerd@*.service --unit frontd@*.service --unit emperord.service --lines 5"
        );
    }
}
