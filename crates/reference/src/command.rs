//! Generates the reference of a program's command line, in Markdown.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Returns a section for the program, and one for each of its commands.
#[must_use]
pub fn command(command: &Command) -> String {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut text = String::new();
    section(&mut text, &mut command, 1);
    text.trim_end().to_owned() + "\n"
}

fn section(text: &mut String, command: &mut Command, level: usize) {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let _ = write!(text, "{} `{name}`\n\n", "#".repeat(level));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = write!(text, "{}\n\n", about.to_string().trim());
    }
    let _ = write!(text, "```text\n{usage}\n```\n\n");
    let commands = command.get_subcommands().filter(|it| is_shown(it)).count();
    let arguments: Vec<_> = command.get_arguments().filter(|it| !it.is_hide_set()).collect();
    if commands == 0 {
        arguments.iter().for_each(|it| argument(text, it));
        text.push_str(if arguments.is_empty() { "" } else { "\n" });
    }
    for it in command.get_subcommands_mut().filter(|it| is_shown(it)) {
        section(text, it, level + 1);
    }
}

fn is_shown(command: &Command) -> bool {
    !command.is_hide_set()
}

fn argument(text: &mut String, argument: &Arg) {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "- `{}`", spelling(argument));
    let help = help.trim().replace("\n\n", "\n\n  ");
    let _ = if help.is_empty() { writeln!(text) } else { writeln!(text, " – {help}") };
    let values: Vec<_> = argument.get_possible_values().iter().map(|it| it.get_name().to_owned()).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        let _ = writeln!(text, "  One of `{}`.", values.join("`, `"));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|it| it.to_string_lossy()).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        let _ = writeln!(text, "  Default: `{}`.", defaults.join(" "));
    }
}

/// Formats an argument's name: `-n, --minutes <N>`, or `<APP>`.
fn spelling(argument: &Arg) -> String {
    if argument.is_positional() {
        return argument.to_string();
    }
    let short = argument.get_short().map(|it| format!("-{it}"));
    match (short, argument.get_long()) {
        (Some(short), Some(_)) => format!("{short}, {argument}"),
        _ => argument.to_string(),
    }
}
