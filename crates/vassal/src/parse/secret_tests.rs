//! No diagnostic shows a value of `[env]`, however invalid the file is.

use std::fmt::Write as _;

use config::{Diagnostics, Problem};
use miette::{
    Diagnostic as _, GraphicalReportHandler, GraphicalTheme, JSONReportHandler, NarratableReportHandler,
};

use super::*;

/// Occurs in no key and in none of our messages.
const SECRET: &str = "s3cr3tXq";
const HEAD: &str = "domains = ['a']\napp = 'a:a'\ndirectory = '/'\n";

/// Everything that is ever reported about a file, in all forms.
fn message(text: &str) -> String {
    let Err(diagnostics) = Vassal::parse(Path::new("/v/blog.toml"), text) else { return String::new() };
    let mut message = format!("{diagnostics}\n{diagnostics:?}\n");
    for problem in diagnostics.problems() {
        render(&mut message, problem);
    }
    let _refused = Vassal::set_workers(text, 3).map_err(|error| {
        let mut error: Option<&dyn std::error::Error> = Some(&error);
        while let Some(it) = error {
            let _ = writeln!(message, "{it}\n{it:?}");
            error = it.source();
        }
    });
    message
}

fn render(message: &mut String, problem: &Problem) {
    let help = problem.help().map(|it| it.to_string()).unwrap_or_default();
    let _ = writeln!(message, "{problem}\n{}\n{help}", problem.line());
    let graphical =
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_context_lines(5);
    graphical.render_report(message, problem).unwrap();
    NarratableReportHandler::new().with_context_lines(5).render_report(message, problem).unwrap();
    JSONReportHandler::new().render_report(message, problem).unwrap();
}

#[track_caller]
fn check_hidden(text: &str) {
    let message = message(text);
    assert!(!message.contains(SECRET), "of:\n{text}\n--- reported:\n{message}");
}

#[test]
fn wrong_values_are_not_shown() {
    let s = SECRET;
    for wrong in [
        format!("[env]\nKEY = {s}"),
        format!("[env]\nKEY = {s} # was {s}"),
        format!("[env]\n# KEY = {s}\nKEY = 1"),
        format!("[env]\nA = 1\nKEY = '{s}'\nB = 2"),
        format!("[env]\nKEY = ['{s}']"),
        format!("[env]\nKEY = {{ a = '{s}' }}"),
        format!("[env]\nKEY = \"{s}"),
        format!("[env]\nKEY = '{s}\nB = '{s}'"),
        format!("[env]\nKEY = \"\"\"\n{s}\n{s}\"\"\"\nB = 1"),
        format!("[env]\nKEY = \"\"\"\n{s}\n[limits]\nbody = {s}"),
        format!("[env]\nKEY = '''\n{s}'' '\n{s}"),
        format!("[env]\nKEY = \"{s}\\q\""),
        format!("[env]\nKEY = \"{s}\" {s}"),
        format!("[env]\nKEY = \"{s}\\u0000\""),
        format!("[env]\n{s}"),
        format!("[env]\nKEY: {s}"),
        format!("[env]\nKEY {s}"),
        format!("[env]\nexport KEY={s}"),
        format!("[env]\nKEY = '{s}'\nKEY = '{s}'"),
        format!("[env]\n1KEY = '{s}'"),
        format!("[env]\n\"KEY X\" = '{s}'"),
        format!("[env]\nworkers = '{s}'\nB = 1"),
        format!("[env]\nKEY = -----BEGIN KEY-----\n{s}\n{s}==\n-----END KEY-----"),
        format!("[env\nKEY = '{s}'"),
        format!("[env]]\nKEY = '{s}'"),
        format!("[env] KEY = '{s}'"),
        format!("[[env]]\nKEY = '{s}'"),
        format!("[env.more]\nKEY = '{s}'"),
        format!("[\"env\"]\nKEY = {s}"),
        format!("['env'.x]\nKEY = {s}"),
        format!("[ env ]\nKEY = {s}"),
        format!("[Env]\nKEY = '{s}'"),
        format!("[evn]\nKEY = '{s}'"),
        format!("[envs]\nKEY = {s}"),
        format!("[environment]\nKEY = '{s}'"),
        format!("[environment]\nKEY = {s}"),
        format!("[enviroment]\nA = 1\n[enviroment.x]\nKEY = '{s}'"),
        format!("env = '{s}'"),
        format!("env = {s}"),
        format!("env.KEY = {s}"),
        format!("env.KEY = '{s}"),
        format!("env.KEY = 3\nenv.B = '{s}'"),
        format!("env.'KEY' = '{s}'\nenv.KEY = 2"),
        format!("\"env\".KEY = {s}"),
        format!("env . KEY = {s}"),
        format!("env = {{ KEY = {s} }}"),
        format!("env = {{ KEY = '{s}', B = 1 }}"),
        format!("env = {{ KEY = '{s}' B = 1 }}"),
        format!("env = {{ KEY = '{s}',\nworkers = {s}\n"),
        format!("env = [\n'{s}',\n'{s}'\n]"),
        format!("KEY = '{s}'"),
        format!("KEY = {s}"),
        format!("[limits]\nKEY = '{s}'"),
        format!("[limits]\nKEY = {s}"),
        format!("wokers = 1\n[env]\nKEY = '{s}'"),
        format!("[env]\nKEY = '{s}'\n[limits]\nbdy = 1"),
        format!("[env]\nKEY = '{s}'\n[limits]\nbody = x"),
        format!("[env]\r\nKEY = {s}\r\n"),
        format!("[env]\rKEY = {s}\r"),
        format!("\u{feff}[env]\nKEY = {s}"),
        format!("[env]\nÄ = '{s}ü'\nKEY = ü{s}"),
    ] {
        for text in [format!("{HEAD}{wrong}"), format!("{HEAD}{wrong}\n"), wrong.clone()] {
            assert!(!message(&text).is_empty(), "nothing is wrong with\n{text}");
            check_hidden(&text);
        }
    }
}

#[test]
fn no_typo_reveals_a_value() {
    let file = format!(
        "domains = ['a.example', 'b.example']\napp = 'a:a'\ndirectory = '/'\nworkers = 2\n\n# Its own.\n[env]\n\
         KEY = '{SECRET}'\nTOKEN = \"{SECRET}\" # not {SECRET}\nLONG = \"\"\"\n{SECRET}\n{SECRET}\"\"\"\n\
         # OLD = '{SECRET}'\n\n[limits]\nbody = '1 MB'\n\n[timeouts]\nstop = 5\n"
    );
    let mut random = fastrand::Rng::with_seed(10);
    for _ in 0..4000 {
        let mut text = file.clone();
        for _ in 0..random.usize(1..4) {
            slip(&mut text, &mut random);
        }
        check_hidden(&text);
    }
}

/// Changes one character outside of the secret.
fn slip(text: &mut String, random: &mut fastrand::Rng) {
    let at = random.usize(0..text.len());
    let is_in_secret =
        text.match_indices(SECRET).any(|(start, it)| (start + 1..start + it.len()).contains(&at));
    if is_in_secret {
        return;
    }
    let begins_secret = text[at..].starts_with(SECRET);
    let other = ['\n', '"', '\'', '[', ']', '{', '}', '=', '#', ',', '.', ' ', '\\', 'x', '1'];
    let new = other[random.usize(0..other.len())];
    match random.u8(0..3) {
        0 if !begins_secret => drop(text.remove(at)),
        1 if !begins_secret => text.replace_range(at..=at, &new.to_string()),
        _ => text.insert(at, new),
    }
}

#[test]
fn problems_are_still_reported_with_their_location() {
    let message = |text: &str| -> Diagnostics { Vassal::parse(Path::new("/v/a.toml"), text).unwrap_err() };
    let line = |rest: &str| message(&format!("{HEAD}{rest}")).to_string();
    assert_eq!(
        line("[env]\nKEY = hunter"),
        "/v/a.toml:5:7: this isn't TOML: write `KEY = \"value\"`, with the value in quotes"
    );
    assert_eq!(
        line("[env]\nPORT = 8000"),
        "/v/a.toml:5:8: `env.PORT` must be a string, not an integer: write the value in quotes"
    );
    let problem = &message(&format!("{HEAD}[env]\nPORT = 8000\n")).into_iter().next().unwrap();
    let mut shown = String::new();
    render(&mut shown, problem);
    assert!(shown.contains("PORT = ***") && !shown.contains("8000"), "{shown}");
}
