//! The system's trust store.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Authority, Outcome, has_program};

/// The folder that a distribution takes certificates from, and the command that updates its trust store.
struct Store {
    folder: &'static str,
    extension: &'static str,
    update: &'static [&'static str],
}

const STORES: [Store; 3] = [
    // Debian, Ubuntu, Alpine
    Store {
        folder: "/usr/local/share/ca-certificates",
        extension: "crt",
        update: &["update-ca-certificates"],
    },
    // Fedora, RHEL
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        extension: "pem",
        update: &["update-ca-trust", "extract"],
    },
    // Arch
    Store {
        folder: "/etc/ca-certificates/trust-source/anchors",
        extension: "pem",
        update: &["trust", "extract-compat"],
    },
];

/// Adds the CA to the system's trust store, or removes it.
pub(super) fn change(authority: &Authority, undo: bool) -> Outcome {
    let is_here = |it: &&Store| Path::new(it.folder).is_dir() || has_program(it.update[0]);
    let Some(store) = STORES.iter().find(is_here) else {
        return Outcome::Left(
            "the system's certificates are in none of the places known here: add the CA by hand".to_owned(),
        );
    };
    let file = Path::new(store.folder).join(&authority.name).with_extension(store.extension);
    if undo && !file.exists() {
        return Outcome::Done("The system doesn't have it".to_owned());
    }
    let commands = store.commands(authority, &file, undo);
    let Some(sudo) = sudo() else {
        let shown = commands.iter().map(|it| it.join(" ")).collect::<Vec<_>>().join(" && ");
        return Outcome::Left(format!("run as root: {shown}"));
    };
    for command in &commands {
        if let Err(why) = run(sudo, command) {
            return Outcome::Left(format!("run as root: {}: {why}", command.join(" ")));
        }
    }
    Outcome::Done(match undo {
        true => "The system no longer trusts it".to_owned(),
        false => format!("The system trusts it ({})", file.display()),
    })
}

impl Store {
    fn commands(&self, authority: &Authority, file: &Path, undo: bool) -> Vec<Vec<String>> {
        let file = file.display().to_string();
        let ours = match undo {
            true => vec!["rm".to_owned(), "-f".to_owned(), file],
            false => {
                let path = authority.path.display().to_string();
                ["install", "-D", "-m", "644", &path, &file].map(str::to_owned).into()
            }
        };
        let mut update: Vec<_> = self.update.iter().map(|&it| it.to_owned()).collect();
        if undo && self.update[0] == "update-ca-certificates" {
            // Otherwise, dangling links would remain.
            update.push("--fresh".to_owned());
        }
        vec![ours, update]
    }
}

/// The prefix for commands that need root. None if sudo can't ask for a password.
fn sudo() -> Option<&'static [&'static str]> {
    match rustix::process::geteuid().is_root() {
        true => Some(&[]),
        false if has_program("sudo") && io::stdin().is_terminal() => Some(&["sudo", "--"]),
        false => None,
    }
}

fn run(sudo: &[&str], command: &[String]) -> Result<(), String> {
    let mut words = sudo.iter().copied().chain(command.iter().map(String::as_str));
    let program = words.next().unwrap_or_default();
    let status = Command::new(program).args(words).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
