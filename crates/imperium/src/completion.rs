//! `imperium completion SHELL`: prints completion scripts, which also complete the names of apps.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Command, CommandFactory, ValueEnum as _};
use config::{EmperordConfig, Layout};
use manual::Shell;
use miette::{Diagnostic, IntoDiagnostic as _};

use crate::at::root_from_env;
use crate::running;

/// Commands whose argument is the name of an app.
const OF_APPS: [&str; 4] = ["forget", "logs", "reload", "scale"];
/// The largest number of apps that is offered.
const MOST: usize = 1000;

const BASH: &str = "
_imperium_with_apps() {
    _imperium \"$@\"
    case \"${COMP_WORDS[1]}\" in
        APPS)
            [[ ${COMP_WORDS[COMP_CWORD]} == -* ]] ||
                COMPREPLY=($(compgen -W \"$(imperium completion --apps 2>/dev/null)\" -- \"${COMP_WORDS[COMP_CWORD]}\"))
            ;;
    esac
}
complete -F _imperium_with_apps -o bashdefault -o default imperium
";

const FISH: &str = "
complete -c imperium -n \"__fish_seen_subcommand_from APPS\" -f -a \"(imperium completion --apps 2>/dev/null)\"
";

const ZSH: &str = "
_imperium_apps() {
    local -a apps
    apps=(${(f)\"$(imperium completion --apps 2>/dev/null)\"})
    compadd -a apps
}
";

/// Print a completion script for a shell; it also completes the names of apps
///
/// bash: `source <(imperium completion bash)`; zsh: `source <(imperium completion zsh)` after `compinit`; fish:
/// `imperium completion fish | source`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Option<Shell>,
    /// Print the names of the apps, for the scripts
    #[arg(long, hide = true, conflicts_with = "shell")]
    apps: bool,
}

/// No shell was named.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("print the completion script for which shell? name one of {}", shells())]
struct WhichShell {
    #[help]
    yours: Option<String>,
}

impl WhichShell {
    /// Suggests the login shell, which isn't necessarily the one that runs.
    fn new(login: Option<Shell>) -> Self {
        Self { yours: login.map(|it| format!("for your login shell, it is `imperium completion {it}`")) }
    }
}

fn shells() -> String {
    Shell::value_variants().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Prints the script.
pub(crate) fn run<Cli: CommandFactory>(args: &Args) -> miette::Result<ExitCode> {
    let text = match args.shell {
        Some(shell) => script(Cli::command(), shell),
        None if !args.apps => return Err(WhichShell::new(Shell::from_env()).into()),
        None => apps().iter().map(|it| format!("{it}\n")).collect(),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).into_diagnostic(),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn script(command: Command, shell: Shell) -> String {
    let script = manual::completion(command, shell);
    match shell {
        Shell::Bash => script + &BASH.replace("APPS", &OF_APPS.join("|")),
        Shell::Fish => script + &FISH.replace("APPS", &OF_APPS.join(" ")),
        // The generated script ends by registering `_imperium`, or by running it if the file is autoloaded.
        Shell::Zsh => script
            .replace("\n_imperium() {", &format!("{ZSH}\n_imperium() {{"))
            .lines()
            .map(|line| {
                match line
                    .trim_start()
                    .trim_start_matches("'::")
                    .trim_start_matches("':")
                    .starts_with("app -- ")
                {
                    true => line.replace(":_default'", ":_imperium_apps'") + "\n",
                    false => format!("{line}\n"),
                }
            })
            .collect(),
        _ => script,
    }
}

/// The apps that have a file. No daemon is asked, since the shell waits for the answer.
fn apps() -> Vec<String> {
    let running = || running::choose().ok().flatten().map(|it| it.root);
    let layout = root_from_env().or_else(running).and_then(|it| Layout::under(&it).ok());
    apps_of(&layout.unwrap_or_else(Layout::system)).unwrap_or_default()
}

/// The apps of an installation that have a file, by name.
///
/// # Errors
/// If the folder of the files can't be read.
pub(crate) fn apps_of(layout: &Layout) -> io::Result<Vec<String>> {
    let entries = folder_of(layout).read_dir()?.flatten().take(MOST);
    let mut names: Vec<_> =
        entries.filter_map(|it| Some(vassal::name_of(&it.path())?.ok()?.to_string())).collect();
    names.sort();
    Ok(names)
}

/// The folder of the apps' files.
pub(crate) fn folder_of(layout: &Layout) -> PathBuf {
    EmperordConfig::load(layout, "workerd".as_ref()).map_or_else(|_| layout.vassals(), |it| it.vassals)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A command line for the tests.
    #[derive(Parser)]
    #[command(name = "imperium")]
    struct Cli {
        #[command(subcommand)]
        command: What,
    }

    #[derive(clap::Subcommand)]
    enum What {
        Reload {
            /// The app
            app: Option<String>,
        },
    }

    #[test]
    fn without_a_shell_they_are_listed() {
        let error = WhichShell::new(Some(Shell::Zsh));
        assert!(error.to_string().ends_with("name one of bash, elvish, fish, powershell, zsh"), "{error}");
        assert!(error.help().unwrap().to_string().contains("`imperium completion zsh`"));
        assert!(WhichShell::new(None).help().is_none());
    }

    #[test]
    fn completion_scripts_ask_for_the_apps() {
        for (shell, words) in [
            (Shell::Bash, "forget|logs|reload|scale)"),
            (Shell::Fish, "__fish_seen_subcommand_from forget logs reload scale"),
            (Shell::Zsh, "app -- The app:_imperium_apps'"),
        ] {
            let script = script(Cli::command(), shell);
            assert!(script.contains(words) && script.contains("imperium completion --apps"), "{script}");
        }
    }
}
