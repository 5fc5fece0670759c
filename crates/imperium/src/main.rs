//! The operator's command line: `imperium up`, `new`, `check`, `status`, `scale`, `reload`, `logs`, `forget`.

mod addresses;
mod admin;
mod app_name;
mod at;
mod check;
mod completion;
mod forget;
mod home;
mod logs;
mod man;
mod new;
mod number;
mod project_folders;
mod refused;
mod reload;
mod running;
mod scale;
mod settled;
mod shell;
mod status;
mod trust;
mod unknown_arguments;
mod up;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use manual::Section;
use miette::MietteHandlerOpts;

/// Runs Python web apps on a Linux server.
#[derive(Debug, Parser)]
#[command(version = version::SHORT, long_version = version::LONG, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    New(new::Args),
    Check(check::Args),
    Status(status::Args),
    Scale(scale::Args),
    Reload(reload::Args),
    Logs(logs::Args),
    Forget(forget::Args),
    Trust(trust::Args),
    Completion(completion::Args),
    Man(man::Args),
}

fn main() -> miette::Result<ExitCode> {
    // Don't wrap lines: paths and URLs have to be easy to copy.
    miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().wrap_lines(false).build())))?;
    match manual::parse_or::<Cli>(Section::Commands, unknown_arguments::explain).command {
        Command::Up(args) => Ok(up::run(&args)),
        Command::New(args) => new::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Completion(args) => completion::run::<Cli>(&args),
        Command::Man(args) => man::run::<Cli>(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_reference_is_up_to_date() {
        reference::Page::of("docs/reference/commands/imperium.md").is(&reference::command(&Cli::command()));
    }
}
