//! The command line of emperord.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use config::emperord::{ConfiguredBy, Mode};
use config::{EmperordConfig, Layout, Source};
use daemon::logging::{self, Format};
use emperord::Launch;
use manual::Section;

/// The supervisor: reads the apps' files, and keeps their workers running.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Use the files below this folder instead of those in /etc, /run and /var
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Read this file instead of emperord.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The program that becomes a worker [default: the one next to this program]
    #[arg(long, value_name = "PATH")]
    workerd: Option<PathBuf>,
    /// The format of log lines: `text`, `json` or `console`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// What starts workers: `process` (emperord itself), or `systemd` (units of workerd@.service)
    #[arg(long, value_name = "LAUNCHER", default_value = "process", value_parser = launch)]
    launcher: Launch,
    /// Show why an app fails, in the terminal and in the browser. Not for servers that others can reach.
    #[arg(long)]
    development: bool,
    /// Advice names options of `imperium up APP` instead of keys of the app's file, which that command has written
    #[arg(long, hide = true)]
    configured_by_options: bool,
}

fn launch(name: &str) -> Result<Launch, &'static str> {
    match name {
        "process" => Ok(Launch::Process),
        "systemd" => Ok(Launch::Systemd),
        _ => Err("must be `process` or `systemd`"),
    }
}

fn main() -> ExitCode {
    let arguments: Arguments = manual::parse(Section::Daemons);
    let _last_lines = logging::init("emperord", arguments.log_format);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = config(arguments)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    let ended = runtime.block_on(emperord::run(config, arguments.log_format, arguments.launcher));
    // Don't wait for lookups that hang.
    runtime.shutdown_background();
    ended
}

fn config(arguments: &Arguments) -> anyhow::Result<EmperordConfig> {
    let layout = arguments.root.as_deref().map_or_else(|| Ok(Layout::system()), Layout::under)?;
    let workerd = beside("workerd")?;
    let mut config = match &arguments.config {
        Some(file) => EmperordConfig::parse(Source::read(file)?, &layout, &workerd)?,
        None => EmperordConfig::load(&layout, &workerd)?,
    };
    if let Some(workerd) = &arguments.workerd {
        config.workerd.clone_from(workerd);
    }
    if arguments.development {
        config.mode = Mode::Development;
    }
    if arguments.configured_by_options {
        config.configured_by = ConfiguredBy::Options;
    }
    Ok(config)
}

fn beside(program: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find the own program")?;
    Ok(own.parent().unwrap_or(Path::new("/")).join(program))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        reference::Page::of("docs/reference/commands/emperord.md")
            .is(&reference::command(&Arguments::command()));
    }
}
