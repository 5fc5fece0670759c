//! `imperium logs`: shows the log of `imperium up`, or systemd's journal.

mod file;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use config::Layout;
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use vassal::Vassal;

use self::file::{Lines, Tail};
use crate::at::At;
use crate::running::NothingRuns;
use crate::{completion, number};

/// How many workers of an app are named to journalctl at least, since `imperium scale` may add some meanwhile.
const NAMED_WORKERS: u16 = 32;
/// How many digits the number of a worker may have.
const MOST_DIGITS: usize = 5;
/// The slice of all units.
const SLICE: &str = "imperium.slice";
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
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = number::any::<usize>)]
    lines: usize,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("read {}: no `imperium up` has logged there", .0.display())]
#[diagnostic(help("start it, or name the folder that it was given: --root DIR"))]
struct NoLog(PathBuf);

/// No such app has a file, and none has logged anything.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("there is no app `{app}`: {}", known(apps))]
struct NoApp {
    app: String,
    apps: Vec<String>,
}

fn known(apps: &[String]) -> String {
    if apps.is_empty() { "none has a file".to_owned() } else { format!("choose one of {}", apps.join(", ")) }
}

/// Prints the lines. With `--follow`, continues until `imperium up` has exited or nobody reads the output any
/// more.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let layout = args.at.layout()?;
    if layout == Layout::system() && !layout.etc.exists() {
        return Err(NothingRuns.into());
    }
    let unknown = args.app.as_deref().and_then(|it| unknown(it, &layout));
    if layout == Layout::system() {
        if let Some(unknown) = unknown
            && !has_journal(&unknown.app)
        {
            return Err(unknown.into());
        }
        let error = journalctl(args, &layout).exec();
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
    if let Some(unknown) = unknown
        && !lines.have_named_app()
    {
        return Err(unknown.into());
    }
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

/// The error for an app that has no file. It may have been removed, and still have lines in the log.
fn unknown(app: &str, layout: &Layout) -> Option<NoApp> {
    let apps = completion::apps_of(layout).ok()?;
    (!apps.iter().any(|it| it == app)).then(|| NoApp { app: app.to_owned(), apps })
}

/// Whether systemd's journal has a line of the app's workers. If it can't be read, journalctl says so itself.
fn has_journal(app: &str) -> bool {
    let mut command = Command::new("journalctl");
    command.args(["--lines", "1", "--quiet", "--output", "cat"]);
    units_of(app, 1).for_each(|it| {
        command.arg("--unit").arg(it);
    });
    command.output().map_or(true, |it| !it.status.success() || !it.stdout.is_empty())
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

/// Asks for the units of one app, or of everything.
fn journalctl(args: &Args, layout: &Layout) -> Command {
    let mut command = Command::new("journalctl");
    let units: Vec<_> = match &args.app {
        Some(app) if args.follow => units_of(app, named_workers(app, layout)).collect(),
        Some(app) => units_of(app, 1).collect(),
        // A slice stands for whatever runs in it, units that are started later included. It doesn't stand for what
        // systemd says of these units.
        None => {
            [SLICE, "workerd@*.service", "frontd@*.service", "emperord.service"].map(str::to_owned).to_vec()
        }
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

/// The units of an app's workers: those with a number after the name, since `blog-*` would also match an app `blog-two`.
/// A pattern only stands for those that have logged by now, and journalctl fails if there are none. So the first `named`
/// ones are named, too.
fn units_of(app: &str, named: u16) -> impl Iterator<Item = String> {
    let named = (1..=named).map(move |number| format!("workerd@{app}-{number}.service"));
    let numbers = (1..=MOST_DIGITS).map(|digits| "[0-9]".repeat(digits));
    numbers.map(move |number| format!("workerd@{app}-{number}.service")).chain(named)
}

/// How many workers the app may have while its log is followed. There are twice as many as usual during a reload.
fn named_workers(app: &str, layout: &Layout) -> u16 {
    let vassal = completion::folder_of(layout).join(format!("{app}.toml"));
    Vassal::load(&vassal).map_or(0, |it| it.workers.saturating_mul(2)).max(NAMED_WORKERS)
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

    fn words(command: &Command) -> String {
        command.get_args().map(|it| it.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn journalctl_is_called_with_the_units() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path()).unwrap();
        std::fs::create_dir(layout.vassals()).unwrap();
        for (app, workers) in [("blog", 2), ("shop", 500)] {
            let text = format!("domains = ['a']\napp = 'a'\ndirectory = '/'\nworkers = {workers}\n");
            std::fs::write(layout.vassals().join(format!("{app}.toml")), text).unwrap();
        }
        let command = |words: &[&str]| {
            let args = Cli::parse_from([&["logs"], words].concat()).args;
            self::words(&journalctl(&args, &layout))
        };
        let of = |app: &str, named: u16| {
            let named: String = (1..=named).map(|it| format!("--unit workerd@{app}-{it}.service ")).collect();
            let digits = |count| format!("--unit workerd@{app}-{}.service ", "[0-9]".repeat(count));
            let numbered: String = (1..=5).map(digits).collect();
            format!("{numbered}{named}--lines 100")
        };
        assert_eq!(command(&["blog"]), of("blog", 1));
        assert_eq!(command(&["blog", "-f"]), format!("{} --follow", of("blog", 32)));
        assert_eq!(command(&["shop", "-f"]), format!("{} --follow", of("shop", 1000)));
        assert_eq!(command(&["nosuch", "-f"]), format!("{} --follow", of("nosuch", 32)));
        // However many apps there are.
        let all =
            "--unit imperium.slice --unit workerd@*.service --unit frontd@*.service --unit emperord.service";
        assert_eq!(command(&["-n", "5"]), format!("{all} --lines 5"));
        assert_eq!(command(&["-f"]), format!("{all} --lines 100 --follow"));
    }
}
