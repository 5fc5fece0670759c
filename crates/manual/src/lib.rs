//! Lets a program write its own man pages and completions, so that a package contains those of its very
//! programs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use clap::{Command, Parser};
pub use clap_complete::Shell;
use clap_mangen::Man;

/// The hidden option for packages. It must be the first argument.
const OPTION: &str = "--write-manual";

/// The section of the manual that a program belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Section 1, for user commands.
    Commands,
    /// Section 8, for daemons.
    Daemons,
}

/// Parses the command line. `PROGRAM --write-manual DIR` writes man pages and completions into DIR, and
/// exits.
#[must_use]
pub fn parse<P: Parser>(section: Section) -> P {
    parse_or(section, |error, _| error)
}

/// Like [`parse`]. `explain` may change an error; it also gets the arguments, without the program's name.
#[must_use]
pub fn parse_or<P: Parser>(
    section: Section,
    explain: impl FnOnce(clap::Error, &[OsString]) -> clap::Error,
) -> P {
    let Some(folder) = asked_for(env::args_os().skip(1)) else {
        return P::try_parse()
            .unwrap_or_else(|error| explain(error, &env::args_os().skip(1).collect::<Vec<_>>()).exit());
    };
    match write(P::command(), section, &folder) {
        Ok(()) => process::exit(0),
        Err(error) => failed(&folder, &error),
    }
}

fn asked_for(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    arguments.next().filter(|it| it == OPTION)?;
    arguments.next().map(PathBuf::from)
}

#[expect(clippy::print_stderr, reason = "no log is there yet, and a packager waits")]
fn failed(folder: &Path, error: &io::Error) -> ! {
    eprintln!("write man pages and completions into {}: {error}", folder.display());
    process::exit(1)
}

/// Writes `NAME.1` for a program and each of its commands, and `NAME.bash`, `_NAME` and `NAME.fish`.
///
/// # Errors
/// If the folder can't be created or written.
pub fn write(command: Command, section: Section, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let name = command.get_name().to_owned();
        clap_complete::generate_to(shell, &mut command, name, folder)?;
    }
    pages(&command, section, folder)
}

/// Returns the completion script of a program for a shell.
#[must_use]
pub fn completion(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Returns the man page of a program, or of one of its commands, in roff. None if there is no such command.
#[must_use]
pub fn page(command: Command, section: Section, subcommand: Option<&str>) -> Option<Vec<u8>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let command = match subcommand {
        Some(name) => command.find_subcommand(name)?,
        None => &command,
    };
    render(command, section).ok()
}

fn render(command: &Command, section: Section) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let version = command.get_version().unwrap_or(env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone());
    let man = man.section(section.number()).manual("Imperium").source(format!("Imperium {version}"));
    man.render(&mut page)?;
    Ok(page)
}

fn pages(command: &Command, section: Section, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    fs::write(folder.join(format!("{name}.{}", section.number())), render(command, section)?)?;
    let shown = |it: &&Command| !it.is_hide_set() && it.get_name() != "help";
    command.get_subcommands().filter(shown).try_for_each(|it| pages(it, section, folder))
}

impl Section {
    fn number(self) -> &'static str {
        match self {
            Self::Commands => "1",
            Self::Daemons => "8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command line for the tests.
    #[derive(Parser)]
    #[command(name = "mill", version)]
    struct Mill {
        #[command(subcommand)]
        command: Option<What>,
    }

    #[derive(clap::Subcommand)]
    enum What {
        /// Grind it
        Grind {
            /// How fine
            #[arg(long)]
            fine: bool,
        },
    }

    #[test]
    fn pages_of_a_program_and_its_commands() {
        let folder = tempfile::tempdir().unwrap();
        write(<Mill as clap::CommandFactory>::command(), Section::Commands, folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["_mill", "mill-grind.1", "mill.1", "mill.bash", "mill.fish"]);
        let page = fs::read_to_string(folder.path().join("mill-grind.1")).unwrap();
        assert!(page.contains(".TH mill-grind 1") && page.contains("How fine"), "{page}");
    }

    #[test]
    fn the_page_of_a_command() {
        let page = |name| page(<Mill as clap::CommandFactory>::command(), Section::Commands, name);
        assert!(String::from_utf8(page(Some("grind")).unwrap()).unwrap().contains(".TH mill-grind 1"));
        assert!(String::from_utf8(page(None).unwrap()).unwrap().contains(".TH mill 1"));
        assert_eq!(page(Some("bake")), None);
    }

    #[test]
    fn only_the_first_argument_counts() {
        let asked = |arguments: &[&str]| asked_for(arguments.iter().map(OsString::from));
        assert_eq!(asked(&["--write-manual", "out"]), Some("out".into()));
        assert_eq!(asked(&["--write-manual"]), None);
        assert_eq!(asked(&["check", "--write-manual"]), None);
    }
}
