//! Runs an app's interpreter to find out what it is, so that an unusable one is reported before a worker
//! fails on it.
#![expect(unsafe_code, reason = "a program can be confined only between fork and exec")]

use std::env;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use config::Wrong;
use rustix::io::Errno;
use rustix::process::setsid;
use rustix::thread::set_no_new_privs;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use vassal::{Python, Vassal};

use crate::admin::block_on;

/// How long the interpreter may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How much of its answer is read, in bytes.
const LONGEST: u64 = 512;
/// How much of a program file is read, in bytes.
const LARGEST: u64 = 64 << 20;
const MARK: &str = "imperium";
/// Works in every Python version. With `-E -s -S` and no environment, it runs no code of the app or of its
/// packages.
const QUESTION: &str = "import sys; i = getattr(sys, 'implementation', None); sys.stdout.write('imperium %s %d %d %s %s' \
                        % (getattr(i, 'name', 'cpython'), sys.version_info[0], sys.version_info[1], \
                        't' in getattr(sys, 'abiflags', '') and 'free-threaded' or 'gil', sys.version.split()[0]))";
const OLDEST: (u32, u32) = (3, 10);
const HINT: &str = "name a virtualenv's folder, or an interpreter that is CPython 3.10 or newer";

/// The user to run the interpreter as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// The user of this process, which isn't root, or the app's file says `user = "root"`.
    Same,
    /// The app's own user: the app may own the program, so root must not run it.
    Of { uid: u32, gid: u32 },
}

/// What is known about the interpreter of an app.
#[derive(Debug)]
pub(super) enum Finding {
    Good,
    /// Workers can't run on it.
    Bad(Wrong),
    /// It wasn't run, for this reason.
    NotAsked(String),
}

/// Runs the interpreter of an app to find out what it is.
pub(super) fn check(vassal: &Vassal) -> Finding {
    let Some((program, named)) = program(vassal) else { return Finding::Good };
    let user = match user(vassal) {
        Ok(user) => user,
        // Look at the file without running it.
        Err(_) if is_another_program(&program) => {
            let what = format!("{named} {}, which is no Python", program.display());
            return Finding::Bad(Wrong::new(what).hint(HINT));
        }
        Err(reason) => return Finding::NotAsked(reason),
    };
    let answer = match block_on(ask(&program, user)) {
        Ok(answer) => answer.unwrap_or_else(Answer::NotRun),
        Err(error) => return Finding::NotAsked(error.to_string()),
    };
    // This doesn't say anything about the program: this process isn't allowed to switch users, for example in
    // emperord's own unit.
    if let (User::Of { .. }, Answer::NotRun(error)) = (user, &answer)
        && error.raw_os_error() == Some(Errno::PERM.raw_os_error())
    {
        return Finding::NotAsked("this process may not become the app's user".to_owned());
    }
    judge(&answer).map_or(Finding::Good, |what| {
        Finding::Bad(Wrong::new(format!("{named} {}, which {what}", program.display())).hint(HINT))
    })
}

/// The program to run, and the verb for messages about it. None if the file names no interpreter and `PATH`
/// has none: the worker's `PATH` may differ from this one.
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

/// The user to run the interpreter as. Root doesn't run it unless the app's file sets `user`: otherwise,
/// whoever owns the program, or a part of the path to it, could run code as another user.
fn user(vassal: &Vassal) -> Result<User, String> {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        return Ok(User::Same);
    }
    let Some(name) = &vassal.confinement.user else {
        return Err("root asks only where the file sets `user`".to_owned());
    };
    let name = name.to_string();
    if name == "root" {
        return Ok(User::Same);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("read /etc/passwd: {error}"))?;
    match uid_of(&passwd, &name) {
        Some((0, _)) => Err(format!("`user` is {name}, which is another name of root")),
        Some((uid, gid)) => Ok(User::Of { uid, gid }),
        None => Err(format!("`user` is {name}, who is not in /etc/passwd")),
    }
}

/// Whether a program certainly isn't CPython: an ELF file without the function that every CPython's `main`
/// calls. A script may run a CPython.
fn is_another_program(program: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = fs::File::open(program).and_then(|it| it.take(LARGEST).read_to_end(&mut bytes));
    let begins = |name: &[u8]| bytes.split(|it| *it == b'P').any(|it| it.starts_with(name));
    read.is_ok() && bytes.starts_with(b"\x7fELF") && !begins(b"y_BytesMain") && !begins(b"y_Main")
}

fn uid_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields =
        passwd.lines().map(|line| line.split(':')).find(|it| it.clone().next() == Some(name))?.skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

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
        // Setting a uid also makes the standard library drop all supplementary groups.
        command.gid(gid).uid(uid);
    }
    let confine = || {
        // Detach from the terminal: otherwise the program could push input into it, which the caller's shell
        // would run.
        setsid()?;
        set_no_new_privs(true)?;
        Ok(())
    };
    // SAFETY: the closure makes only system calls between fork and exec, and neither allocates nor locks.
    unsafe { command.pre_exec(confine) };
    let mut child = command.spawn()?;
    let answered = timeout(LIMIT, async {
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST).read_to_end(&mut output).await?;
        }
        Ok(Answer::Ended(child.wait().await?, output))
    });
    answered.await.unwrap_or(Ok(Answer::NoEnd))
}

/// What is wrong with the program, as the end of a sentence.
fn judge(answer: &Answer) -> Option<String> {
    let (status, output) = match answer {
        Answer::NotRun(error) => return Some(format!("cannot be run: {error}")),
        Answer::NoEnd => {
            return Some(format!("is no Python: it did not answer within {} s", LIMIT.as_secs()));
        }
        Answer::Ended(status, output) => (status, String::from_utf8_lossy(output)),
    };
    let words: Vec<_> = output.split(' ').collect();
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

    /// What is reported about a program with this script.
    fn problem(script: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("python3");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        judge(&block_on(ask(&program, User::Same)).unwrap().unwrap_or_else(Answer::NotRun))
    }

    fn answers(words: &str) -> Option<String> {
        problem(&format!("#!/bin/sh\nprintf '%s' 'imperium {words}'\n"))
    }

    #[test]
    fn only_a_supported_cpython_is_accepted() {
        assert_eq!(answers("cpython 3 10 gil 3.10.13"), None);
        assert_eq!(answers("cpython 3 15 gil 3.15.0a1"), None);
        for (words, expected) in [
            ("cpython 3 9 gil 3.9.18", "is CPython 3.9.18: it is too old"),
            ("cpython 2 7 gil 2.7.18", "is CPython 2.7.18: it is too old"),
            ("cpython 3 13 free-threaded 3.13.0", "is a free-threaded build of CPython 3.13.0"),
            ("pypy 3 10 gil 3.10.14", "is pypy 3.10.14, and no CPython"),
            ("cpython three ten gil x", "is no Python: it has no version"),
        ] {
            let problem = answers(words).unwrap();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn programs_other_than_python_are_recognized() {
        for (script, expected) in [
            ("#!/bin/sh\nexec ls \"$@\"\n", "is no Python: it did not run a line of it (exit status: 2)"),
            ("#!/bin/sh\ntrue\n", "is no Python: it did not run a line of it (exit status: 0)"),
            ("#!/bin/sh\nexec yes\n", "is no Python: it did not run a line of it (signal: 13 (SIGPIPE))"),
            ("#!/no/such/program\n", "cannot be run: No such file or directory (os error 2)"),
        ] {
            assert_eq!(problem(script).as_deref(), Some(expected), "{script}");
        }
    }

    /// An app whose interpreter records that it was run, in a folder that is owned by root.
    fn app(more: &str) -> (tempfile::TempDir, Vassal) {
        let place = tempfile::Builder::new().prefix("imperium-check-").tempdir_in("/var/lib").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(place.path(), 0o777);
        let (program, ran) = (place.path().join("python3"), place.path().join("ran"));
        fs::write(&program, format!("#!/bin/sh\nid -un >{}\n", ran.display())).unwrap();
        mode(&program, 0o755);
        let text = format!(
            "domains = ['a']\napp = 'a:a'\ndirectory = '{}'\npython = '{}'\n{more}",
            place.path().display(),
            program.display()
        );
        let vassal = Vassal::parse(Path::new("/v/blog.toml"), &text).unwrap();
        (place, vassal)
    }

    #[test]
    fn root_runs_no_interpreter_without_a_user() {
        skip::needs_root!();
        // The folder belongs to root, but the program could be anybody's.
        for (more, expected) in [
            ("", "root asks only where the file sets `user`"),
            ("user = 'no-such-user'", "`user` is no-such-user, who is not in /etc/passwd"),
        ] {
            let (place, vassal) = app(more);
            let Finding::NotAsked(reason) = check(&vassal) else { panic!("it was asked: {more}") };
            assert_eq!(reason, expected);
            assert!(!place.path().join("ran").exists(), "{more}");
        }
        for (more, expected) in [("user = 'root'", "root\n"), ("user = 'nobody'", "nobody\n")] {
            let (place, vassal) = app(more);
            assert!(matches!(check(&vassal), Finding::Bad(_)));
            assert_eq!(fs::read_to_string(place.path().join("ran")).unwrap(), expected);
        }
    }

    #[test]
    fn an_interpreter_runs_without_a_terminal_and_new_privileges() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("python3");
        let script = "#!/bin/sh\ngrep NoNewPrivs /proc/self/status\ncut -d' ' -f5-7 /proc/$$/stat\necho $$\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let Answer::Ended(_, output) = block_on(ask(&program, User::Same)).unwrap().unwrap() else {
            panic!("it does not end")
        };
        let output = String::from_utf8(output).unwrap();
        let words: Vec<_> = output.split_whitespace().collect();
        let [_, privileges, group, session, terminal, pid] = words.as_slice() else { panic!("{output}") };
        assert_eq!((*privileges, *group, *session, *terminal), ("1", *pid, *pid, "0"));
    }

    #[test]
    fn a_program_that_is_not_python_is_recognized_without_running_it() {
        assert!(is_another_program(Path::new("/bin/ls")));
        let python = env::split_paths(&env::var_os("PATH").unwrap())
            .map(|it| it.join("python3"))
            .find(|it| it.is_file());
        assert!(!is_another_program(&python.unwrap()));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shim"), "#!/bin/sh\n").unwrap();
        assert!(!is_another_program(&folder.path().join("shim")));
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
