//! The command line of emperord.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use config::{EmperordConfig, Layout, Source};
use daemon::logging::{self, Format};
use emperord::Launch;
use manual::Section;

/// Follows the folder of vassals and keeps their workers alive.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Keep everything under this folder, and not in the system's.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Read this file in place of emperord.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The program that becomes a worker; by default the one beside this.
    #[arg(long, value_name = "PATH")]
    workerd: Option<PathBuf>,
    /// How to log: `text` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Who starts workers: emperord itself, as processes, or systemd, as units of workerd@.service.
    #[arg(long, value_name = "LAUNCHER", default_value = "process", value_parser = launch)]
    launcher: Launch,
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
    runtime.block_on(emperord::run(config, arguments.log_format, arguments.launcher))
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
