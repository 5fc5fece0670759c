//! Says what to write instead of options and commands of other servers, such as `--bind` and `run`.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::shell;

/// Options of `up` that other servers have, and what to use here.
const OPTIONS: [(&[&str], &str); 11] = [
    (
        &["--host", "--bind", "-b", "-H", "--listen", "-l", "--address", "--addr", "--ip"],
        "listen elsewhere with `--port 9000`, or with `--http 0.0.0.0:8000`, `--http :80` or `--http localhost:8005`",
    ),
    (
        &["--reload", "-r", "--debug", "--debugger", "--dev", "--watch", "--auto-reload"],
        "the app is reloaded by default when its files change, and shows tracebacks; `--no-reload` turns reloading off",
    ),
    (&["-w", "--processes", "--process"], "set the number of worker processes with `--workers N`"),
    (
        &[
            "--interface",
            "--worker-class",
            "-k",
            "--asgi",
            "--loop",
            "--limit-concurrency",
            "--worker-connections",
        ],
        "whether the app is WSGI or ASGI is detected, and uvloop is used if its virtualenv has it; an app's file can set \
         `interface`, `loop` and `concurrency`: write one with `imperium new`",
    ),
    (
        &["--lifespan", "--ws", "--no-ws", "--websockets", "--ws-ping-interval", "--ws-ping-timeout"],
        "leave it out: an app's lifespan and its WebSockets need no option",
    ),
    (
        &["--ws-max-size", "--websocket-max-message-size"],
        "the largest WebSocket message is 16 MiB; an app's file can set another one as `message` in `[limits]`",
    ),
    (
        &["--timeout", "-t"],
        "the limit of a start is `--start-timeout TIME`; that of a request is set in an app's file",
    ),
    (
        &["--module", "--wsgi", "--wsgi-file", "--app", "-A", "--factory"],
        "name the app without an option: `imperium up module:callable`, `imperium up app.py`, `imperium up 'module:create_app()'`",
    ),
    (
        &["--access-log", "--access-logfile", "--access-logformat"],
        "each request is logged by default; `--no-access-log` turns that off",
    ),
    (&["--log-level", "--verbose", "-v", "--loglevel"], "set the level with `IMPERIUM_LOG=info`"),
    (
        &["--daemon", "-D", "--daemonize", "-d"],
        "`imperium up` runs in the foreground; to run an app as a service, see `imperium new --help`",
    ),
];

/// Commands of other servers, and those of Imperium.
const COMMANDS: [(&[&str], &str); 6] = [
    (
        &["stop", "kill", "shutdown", "quit", "down"],
        "press Ctrl-C to stop `imperium up`; a service is stopped by `systemctl stop`",
    ),
    (&["restart"], "replace the workers of an app with `imperium reload APP`"),
    (&["ps", "list", "ls", "apps", "top"], "show the apps with `imperium status`"),
    (&["log", "tail"], "show what was logged with `imperium logs`"),
    (&["init", "create", "add", "deploy", "install"], "write the file of an app with `imperium new PATH`"),
    (&["test", "lint", "validate", "configtest", "verify"], "check files with `imperium check`"),
];

/// Commands that run an app elsewhere.
const RUNS: [&str; 8] = ["run", "serve", "start", "runserver", "server", "dev", "develop", "debug"];

/// Replaces clap's own suggestions, if it is known what was meant.
pub(crate) fn explain(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let tip = match error.kind() {
        ErrorKind::UnknownArgument => {
            text(&error, ContextKind::InvalidArg).and_then(|it| option(&it, arguments))
        }
        ErrorKind::InvalidSubcommand => {
            text(&error, ContextKind::InvalidSubcommand).map(|it| command(&it, arguments))
        }
        _ => None,
    };
    let Some(tip) = tip.filter(|it| !it.is_empty()) else { return error };
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        error.remove(kind);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn option(name: &str, arguments: &[OsString]) -> Option<String> {
    arguments.first().filter(|it| *it == "up")?;
    let name = name.split('=').next().unwrap_or(name);
    OPTIONS.iter().find(|(names, _)| names.contains(&name)).map(|(_, tip)| (*tip).to_owned())
}

/// Returns an empty string if clap's own suggestion is better.
fn command(name: &str, arguments: &[OsString]) -> String {
    if let Some((_, tip)) = COMMANDS.iter().find(|(names, _)| names.contains(&name)) {
        return (*tip).to_owned();
    }
    let next = arguments.iter().skip_while(|it| *it != name).nth(1).and_then(|it| it.to_str());
    let app = match RUNS.contains(&name) {
        true => next.filter(|it| is_app(it)).unwrap_or("app.py"),
        false if is_app(name) => name,
        false => return String::new(),
    };
    format!("run an app with `imperium up {}`", shell::quoted(app))
}

/// Whether a word looks like an app: a file, a module with a callable, or a folder.
fn is_app(word: &str) -> bool {
    !word.starts_with('-')
        && (word.contains(['.', ':', '/'])
            || Path::new(word).exists()
            || Path::new(&format!("{word}.py")).is_file())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::Cli;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        let error = Cli::command().try_get_matches_from(&words).unwrap_err();
        let told = explain(error, &words[1..]).to_string();
        let tips: Vec<_> = told.lines().filter_map(|it| it.trim().strip_prefix("tip: ")).collect();
        assert_eq!(tips.len(), usize::from(!expected.is_empty()), "{told}");
        assert!(tips.iter().all(|it| it.contains(expected)), "{told}");
    }

    #[test]
    fn options_of_other_servers_are_explained() {
        for word in ["--host", "--host=0.0.0.0", "--bind", "-b", "--listen"] {
            check(&format!("imperium up app.py {word}"), "`--http 0.0.0.0:8000`");
        }
        check("imperium up app.py --reload", "reloaded by default");
        check("imperium up app.py --debug", "reloaded by default");
        check("imperium up app.py -w 4", "`--workers N`");
        check("imperium up --wsgi blog.wsgi", "`imperium up module:callable`");
        check("imperium up app.py --worker 2", "'--workers'");
        for word in ["--loop uvloop", "--interface asgi", "-k uvicorn.workers.UvicornWorker"] {
            check(&format!("imperium up app.py {word}"), "`interface`, `loop` and `concurrency`");
        }
        check("imperium up main:app --lifespan off", "leave it out");
        check("imperium up main:app --ws-max-size 1000", "`message` in `[limits]`");
        check("imperium status --reload", "");
    }

    #[test]
    fn commands_of_other_servers_are_explained() {
        check("imperium app.py", "`imperium up app.py`");
        check("imperium blog.wsgi:application --port 9000", "`imperium up blog.wsgi:application`");
        check("imperium web:create_app()", "`imperium up 'web:create_app()'`");
        check("imperium run", "`imperium up app.py`");
        check("imperium run src/web.py", "`imperium up src/web.py`");
        check("imperium serve --port 1", "`imperium up app.py`");
        check("imperium start", "`imperium up app.py`");
        check("imperium restart blog", "`imperium reload APP`");
        check("imperium ps", "`imperium status`");
        check("imperium stauts", "'status'");
        check("imperium xyzzy", "");
    }
}
