//! Asks the interpreter of an app what it is: a path that names no usable Python is told before a worker fails on it.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use config::Wrong;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use vassal::{Python, Vassal};

use crate::admin::block_on;

/// How long an interpreter may take to say what it is.
const LIMIT: Duration = Duration::from_secs(10);
/// What is read of its answer, in bytes.
const LONGEST: u64 = 512;
const MARK: &str = "imperium";
/// Understood by any Python there is. Nothing of the app's or of its packages is run: no `site`, no environment.
const QUESTION: &str = "import sys; i = getattr(sys, 'implementation', None); sys.stdout.write('imperium %s %d %d %s %s' \
                        % (getattr(i, 'name', 'cpython'), sys.version_info[0], sys.version_info[1], \
                        't' in getattr(sys, 'abiflags', '') and 'free-threaded' or 'gil', sys.version.split()[0]))";
const OLDEST: (u32, u32) = (3, 10);
const CURE: &str = "name a virtualenv's folder, or an interpreter that is CPython 3.10 or newer";

/// Whom to run the interpreter as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// As this process.
    Same,
    /// As the app's own user, whose program it may be: it is not root's business.
    Of { uid: u32, gid: u32 },
}

/// What is wrong with the interpreter that an app would run on; None when nothing is.
pub(super) fn check(vassal: &Vassal) -> Option<Wrong> {
    let (program, named) = program(vassal)?;
    let user = user(vassal)?;
    let answer = block_on(ask(&program, user)).ok()?.unwrap_or_else(Answer::NotRun);
    judge(&answer).map(|what| Wrong::new(format!("{named} {}, which {what}", program.display())).cure(CURE))
}

/// What would be run, and how it is spoken of. None where the file names nothing and `PATH` has none: that is another
/// environment than the worker's, and says nothing of it.
fn program(vassal: &Vassal) -> Option<(PathBuf, &'static str)> {
    match &vassal.python {
        Python::Virtualenv(folder) => Some((folder.join("bin/python"), "names")),
        Python::Interpreter(program) => Some((program.clone(), "names")),
        Python::Default => {
            let path = vassal.env.get("PATH").map(Into::into).or_else(|| env::var_os("PATH"))?;
            let found =
                env::split_paths(&path).map(|folder| folder.join("python3")).find(|it| it.is_file())?;
            Some((found, "is left out, and `python3` of PATH is"))
        }
    }
}

/// None where it isn't known.
fn user(vassal: &Vassal) -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return Some(User::Same);
    }
    let (uid, gid) = match &vassal.confinement.user {
        Some(name) => uid_of(&fs::read_to_string("/etc/passwd").ok()?, &name.to_string())?,
        None => vassal.directory.metadata().map(|it| (it.uid(), it.gid())).ok()?,
    };
    Some(if uid == 0 { User::Same } else { User::Of { uid, gid } })
}

fn uid_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields =
        passwd.lines().map(|line| line.split(':')).find(|it| it.clone().next() == Some(name))?.skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// What came of asking.
#[derive(Debug)]
enum Answer {
    NotRun(io::Error),
    NoEnd,
    Ended(ExitStatus, Vec<u8>),
}

async fn ask(program: &Path, user: User) -> io::Result<Answer> {
    let mut command = Command::new(program);
    command.args(["-E", "-s", "-S", "-c", QUESTION]).env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let User::Of { uid, gid } = user {
        // With the uid, the standard library gives up all other groups.
        command.gid(gid).uid(uid);
    }
    let mut child = command.spawn()?;
    let answered = timeout(LIMIT, async {
        let mut said = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST).read_to_end(&mut said).await?;
        }
        Ok(Answer::Ended(child.wait().await?, said))
    });
    answered.await.unwrap_or(Ok(Answer::NoEnd))
}

/// What is wrong with it, as the end of a sentence.
fn judge(answer: &Answer) -> Option<String> {
    let (status, said) = match answer {
        Answer::NotRun(error) => return Some(format!("cannot be run: {error}")),
        Answer::NoEnd => {
            return Some(format!("is no Python: it did not answer within {} s", LIMIT.as_secs()));
        }
        Answer::Ended(status, said) => (status, String::from_utf8_lossy(said)),
    };
    let words: Vec<_> = said.split(' ').collect();
    let [MARK, implementation, major, minor, threads, version] = words.as_slice() else {
        return Some(format!("is no Python: it did not run a line of it ({status})"));
    };
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return Some("is no Python: it has no version".to_owned());
    };
    match (*implementation, *threads) {
        ("cpython", _) if (major, minor) < OLDEST => Some(format!("is CPython {version}: it is too old")),
        ("cpython", "free-threaded") => Some(format!(
            "is a free-threaded build of CPython {version}, and cannot load extensions of the stable ABI: use one with \
             the GIL"
        )),
        ("cpython", _) => None,
        (other, _) => Some(format!("is {other} {version}, and no CPython")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What a program that does this is told.
    fn told(script: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("python3");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        judge(&block_on(ask(&program, User::Same)).unwrap().unwrap_or_else(Answer::NotRun))
    }

    fn answers(words: &str) -> Option<String> {
        told(&format!("#!/bin/sh\nprintf '%s' 'imperium {words}'\n"))
    }

    #[test]
    fn only_a_cpython_that_can_load_the_extension_is_good() {
        assert_eq!(answers("cpython 3 10 gil 3.10.13"), None);
        assert_eq!(answers("cpython 3 15 gil 3.15.0a1"), None);
        for (words, expected) in [
            ("cpython 3 9 gil 3.9.18", "is CPython 3.9.18: it is too old"),
            ("cpython 2 7 gil 2.7.18", "is CPython 2.7.18: it is too old"),
            ("cpython 3 13 free-threaded 3.13.0", "is a free-threaded build of CPython 3.13.0"),
            ("pypy 3 10 gil 3.10.14", "is pypy 3.10.14, and no CPython"),
            ("cpython three ten gil x", "is no Python: it has no version"),
        ] {
            let told = answers(words).unwrap();
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn other_programs_are_told_from_a_python() {
        for (script, expected) in [
            ("#!/bin/sh\nexec ls \"$@\"\n", "is no Python: it did not run a line of it (exit status: 2)"),
            ("#!/bin/sh\ntrue\n", "is no Python: it did not run a line of it (exit status: 0)"),
            ("#!/bin/sh\nexec yes\n", "is no Python: it did not run a line of it (signal: 13 (SIGPIPE))"),
            ("#!/no/such/program\n", "cannot be run: No such file or directory (os error 2)"),
        ] {
            assert_eq!(told(script).as_deref(), Some(expected), "{script}");
        }
    }

    #[test]
    fn users_are_found() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nblog:x:1000:1001::/srv/blog:/bin/sh\nshort:x\n";
        for (name, expected) in
            [("root", Some((0, 0))), ("blog", Some((1000, 1001))), ("short", None), ("blo", None)]
        {
            assert_eq!(uid_of(passwd, name), expected, "{name}");
        }
    }
}
