//! `imperium up`: runs all daemons in the foreground, without privileges.

mod announce;
mod children;
mod instead;
mod late_virtualenv;
mod listen;
mod listeners;
mod notices;
mod one_app;
mod plan;
mod port_owner;
mod programs;
mod python;
mod restart;
mod spawn;
mod stack;
mod target;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use config::FrontdConfig;
use config::emperord::ConfiguredBy;
use daemon::logging::{self, Format, NOTICE, copy};
use daemon::output;
use daemon::signals::Signals;
use miette::{IntoDiagnostic as _, WrapErr as _};
use tracing::{info, warn};

use self::announce::{Announcer, CannotStart, OnFailure, Style};
use self::listen::Listen;
use self::listeners::Listeners;
use self::notices::Notices;
use self::one_app::OneApp;
use self::plan::Plan;
use self::programs::{EMPEROR, FRONT, Options, Pages};
use self::stack::{Program, Stack};
use crate::addresses::Addresses;
use crate::admin::block_on;
use crate::{home, running};

/// The exit status if the app of `up APP` can't start and its files aren't watched, the same as gunicorn's.
const EXIT_CANNOT_START: u8 = 3;

/// Printed where a developer might expect more on error pages.
const HIDDEN: &str =
    "Error pages show no tracebacks, as other machines may connect: --development shows them to everybody\n";

/// The time that a daemon gets to exit in addition to its own limits.
const MARGIN: Duration = Duration::from_secs(10);
/// Signals within this time are one request to stop.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Run everything in the foreground: the apps of a folder, or one app
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    one_app: OneApp,
    /// Run the apps in DIR/vassals/; all other files are under DIR too [default: $IMPERIUM_ROOT]
    #[arg(long, value_name = "DIR", conflicts_with = "app", value_parser = home::path())]
    root: Option<PathBuf>,
    /// Serve plain HTTP on this port of 127.0.0.1; 0 picks a free port
    #[arg(short, long, value_name = "N", conflicts_with = "http", value_parser = listen::parse_port)]
    port: Option<u16>,
    /// Listen here for plain HTTP: a port, `:80`, `localhost:8005`, an address with a port, or `off` [default: as in
    /// frontd.toml, or 127.0.0.1:8080, or 127.0.0.1:8000 for one app]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<Listen>,
    /// Listen here for HTTPS: the same, or `off` [default: as in frontd.toml, or 127.0.0.1:8443; for one app, another
    /// free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    https: Option<Listen>,
    /// Answer probes and metrics here [default: as in frontd.toml, or 127.0.0.1:9180, or any port for one app]
    #[arg(long, value_name = "ADDRESS", value_parser = listen::address)]
    admin: Option<SocketAddr>,
    /// Show details on error pages, such as tracebacks and the known hosts [default: only when running one app on
    /// loopback addresses]
    #[arg(long)]
    development: bool,
    /// How log lines are written: `text`, `json` or `console` [default: text, or console for one app]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
}

impl Args {
    fn log_format(&self) -> Format {
        let usual = if self.one_app.app.is_some() { Format::Console } else { Format::Text };
        self.log_format.unwrap_or(usual)
    }

    fn style(&self) -> Style {
        if self.one_app.app.is_some() { Style::OneApp } else { Style::Apps }
    }

    fn configured_by(&self) -> ConfiguredBy {
        if self.one_app.app.is_some() { ConfiguredBy::Options } else { ConfiguredBy::Files }
    }

    fn on_failure(&self) -> OnFailure {
        if self.one_app.reloads() { OnFailure::Wait } else { OnFailure::End }
    }

    /// How detailed emperord reports a failed app. The terminal belongs to whoever runs `up APP`.
    fn reports(&self) -> Pages {
        if self.development || self.one_app.app.is_some() { Pages::Development } else { Pages::Production }
    }

    /// How detailed frontd's error pages are. Those of `up APP` are for developers only while no other
    /// machine can connect.
    fn pages(&self, frontd: &FrontdConfig) -> Pages {
        let all_local =
            frontd.http.iter().chain(&frontd.https).all(|it| it.ip().to_canonical().is_loopback());
        if self.development || all_local { self.reports() } else { Pages::Production }
    }
}

/// Runs until all processes have exited. Errors are printed here, through a writer that doesn't block on a
/// slow reader of stderr.
pub(crate) fn run(args: &Args) -> ExitCode {
    let _last_lines = logging::init("imperium", args.log_format());
    match run_stack(args) {
        Ok(Ending::Stopped) => ExitCode::SUCCESS,
        Ok(Ending::CannotStart) => ExitCode::from(EXIT_CANNOT_START),
        Err(error) => {
            output::stderr().write(format!("Error: {error:?}\n").into_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Why a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It was asked to stop.
    Stopped,
    /// The app of `up APP` can't start.
    CannotStart,
}

/// Reads everything, then binds the sockets, then starts the daemons. Returns when all have exited.
fn run_stack(args: &Args) -> miette::Result<Ending> {
    let mut plan = Plan::read(args)?;
    let log_copy = plan.layout.run.join("log");
    copy::keep(log_copy.clone());
    let listeners = Listeners::bind(&plan.addresses())?;
    let addresses = Addresses {
        http: listeners.addresses("http"),
        https: listeners.addresses("https"),
        admin: listeners.addresses("admin").first().copied().or(Some(plan.frontd.admin)),
    };
    addresses
        .write(&plan.emperord.socket)
        .into_diagnostic()
        .wrap_err("write the addresses for `imperium status`")?;
    info!(root = %plan.layout.etc.display(), "starting");
    if let Some(greeting) = &plan.greeting {
        output::stdout().write(greeting.clone().into_bytes());
    }
    let options = Options { root: &plan.layout.etc, log_format: args.log_format(), log_copy: &log_copy };
    let pages = args.pages(&plan.frontd);
    if pages != args.reports() {
        output::stdout().write(HIDDEN.as_bytes().to_vec());
    }
    let frontd = plan.programs.frontd(options, pages, listeners);
    let programs = vec![plan.programs.emperord(options, args.reports(), args.configured_by()), frontd];
    let announcer = Announcer {
        addresses,
        socket: plan.emperord.socket.clone(),
        authority: plan.authority(),
        style: args.style(),
        on_failure: args.on_failure(),
        late_virtualenv: plan.late_virtualenv.take(),
    };
    // Removes what an earlier one has left behind if it was killed.
    running::all();
    let _entry = running::register(&plan.layout.etc, args.one_app.app.as_deref())
        .inspect_err(|error| warn!(%error, "other commands can't find this `imperium up` without --root"));
    let ending = block_on(serve(&plan, programs, announcer))??;
    remove_sockets(&plan.emperord.run);
    Addresses::remove(&plan.emperord.socket);
    info!("stopped");
    Ok(ending)
}

/// Runs until a signal arrives, then stops everything in reverse order. A second signal kills everything at
/// once.
async fn serve(plan: &Plan, programs: Vec<Program>, announcer: Announcer) -> miette::Result<Ending> {
    let mut signals = Signals::new().into_diagnostic().wrap_err("receive signals")?;
    let notices = plan.emperord.run.join("notify.sock");
    let notices =
        Notices::bind(notices).into_diagnostic().wrap_err("listen for notifications of the daemons")?;
    let mut stack = Stack::new(programs, notices).into_diagnostic().wrap_err("supervise processes")?;
    let ending = tokio::select! {
        never = stack.keep_running() => match never {},
        CannotStart = announcer.run() => Ending::CannotStart,
        _ = signals.next() => {
            info!(target: NOTICE, "stopping: press Ctrl-C again to force quit");
            Ending::Stopped
        }
    };
    tokio::select! {
        () = end(&mut stack, plan) => {}
        () = asked_again(&mut signals) => warn!("killing everything"),
    }
    stack.kill().await.into_diagnostic().wrap_err("kill all processes")?;
    Ok(ending)
}

/// Waits for another signal, unless it belongs to the first one: a wrapper such as `timeout` passes on a signal that the
/// terminal has sent to all its processes.
async fn asked_again(signals: &mut Signals) {
    let first = Instant::now();
    loop {
        signals.next().await;
        if first.elapsed() >= SAME_SIGNAL {
            return;
        }
    }
}

/// Stops frontd first, since its requests in flight need workers.
async fn end(stack: &mut Stack, plan: &Plan) {
    stack.stop(FRONT, plan.frontd.drain + MARGIN).await;
    stack.stop(EMPEROR, plan.longest_stop() + MARGIN).await;
    if let Err(error) = stack.stop_orphans(MARGIN).await {
        warn!(%error, "cannot look for remaining processes");
    }
}

/// Removes sockets that killed daemons have left behind.
fn remove_sockets(run: &Path) {
    let of_apps = fs::read_dir(run.join("workers")).into_iter().flatten().flatten().map(|it| it.path());
    for folder in of_apps.chain([run.to_owned()]) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for socket in entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_socket())) {
            let _gone_already = fs::remove_file(socket.path());
        }
    }
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
    fn tracebacks_are_hidden_from_others_unless_enabled() {
        let pages = |words: &[&str], http: &[&str], https: &[&str]| {
            let args = Cli::parse_from([&["up"], words].concat()).args;
            let parse = |of: &[&str]| of.iter().map(|it| it.parse().unwrap()).collect();
            let layout = config::Layout::under(Path::new("/r")).unwrap();
            let mut frontd = FrontdConfig::load(&layout).unwrap();
            (frontd.http, frontd.https) = (parse(http), parse(https));
            args.pages(&frontd)
        };
        let local = ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"];
        assert_eq!(pages(&["app.py"], &local, &local), Pages::Development);
        for other in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80"] {
            assert_eq!(pages(&["app.py"], &[other], &local), Pages::Production, "{other}");
            assert_eq!(pages(&["app.py"], &local, &[other]), Pages::Production, "{other}");
            assert_eq!(pages(&["app.py", "--development"], &[other], &[]), Pages::Development, "{other}");
        }
        assert_eq!(pages(&["--root", "/r"], &local, &local), Pages::Production);
    }
}
