//! The machine and the versions of the measured programs.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::available_parallelism;

use ::tests::place::Place;
use serde_json::{Value, json};

use super::program;

/// The context of the results.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    system: String,
    /// Programs and their versions.
    versions: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) fn look(place: &Place) -> Self {
        let venv = |program: &str| Some(place.venv.join("bin").join(program));
        let versions = [
            ("Imperium", version(Some(place.binaries.join("imperium")), "--version")),
            ("Python", version(venv("python"), "--version")),
            ("nginx", version(program::find("nginx"), "-v")),
            ("uWSGI", version(venv("uwsgi"), "--version")),
            ("gunicorn", version(venv("gunicorn"), "--version")),
            ("granian", version(venv("granian"), "--version")),
            ("uvicorn", version(venv("uvicorn"), "--version")),
            ("Caddy", version(venv("caddy"), "version")),
            ("wrk", version(program::find("wrk"), "-v")),
            ("h2load", version(program::find("h2load"), "--version")),
        ];
        let versions = versions.into_iter().filter_map(|(name, version)| Some((name, version?))).collect();
        Self {
            processor: processor(),
            cores: available_parallelism().map_or(1, usize::from),
            system: system(),
            versions,
        }
    }

    /// The machine with its system, and the versions of the programs.
    pub(crate) fn lines(&self) -> [String; 2] {
        let Self { processor, cores, system, .. } = self;
        let versions = self.versions.iter().map(|(name, version)| format!("{name} {version}"));
        [format!("{processor}, {cores} cores, {system}"), versions.collect::<Vec<_>>().join(", ")]
    }

    pub(crate) fn json(&self) -> Value {
        let versions: serde_json::Map<_, _> =
            self.versions.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
        json!({ "processor": self.processor, "cores": self.cores, "system": self.system, "versions": versions })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [hardware, software] = self.lines();
        write!(f, "{hardware}\n{software}")
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, Linux {}", name.trim_matches('"'), kernel.trim())
}

/// The first word in a program's version output that starts with a digit. wrk prints it with an error status.
fn version(program: Option<PathBuf>, option: &str) -> Option<String> {
    let output = Command::new(program?).arg(option).output().ok()?;
    first_number(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))
}

fn first_number(text: &str) -> Option<String> {
    let words = text.split(|it: char| it.is_whitespace() || it == '/');
    let mut words = words.map(|it| it.trim_end_matches(')').trim_start_matches('v'));
    words
        .find(|word| word.starts_with(|it: char| it.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_outputs_are_parsed() {
        let check = |text, expected: &str| assert_eq!(first_number(text).as_deref(), Some(expected));
        check("nginx version: nginx/1.22.1\n", "1.22.1");
        check("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer", "4.1.0-3+b2");
        check("h2load nghttp2/1.52.0", "1.52.0");
        check("2.0.31\n", "2.0.31");
        check("gunicorn (version 27.0.1)", "27.0.1");
        check("Python 3.11.7", "3.11.7");
        check("v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=", "2.11.7");
        assert_eq!(first_number("no number"), None);
    }
}
