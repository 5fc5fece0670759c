//! Starts real processes, and examines them from outside.

use std::ffi::OsStr;
use std::fs::{self, File};

use tempfile::TempDir;

use super::*;

const NOBODY: u32 = 65_534;

fn fork(place: &Path) -> ProcessLauncher {
    let program = place.join("workerd");
    fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    ProcessLauncher {
        workerd: program,
        socket: place.join("emperord.sock"),
        sockets: place.join("workers"),
        log_format: Format::Text,
        cgroups: Cgroups::default(),
    }
}

/// Creates a folder that all users can reach, but only root can write.
fn open_place() -> TempDir {
    let place = tempfile::Builder::new().prefix("imperium-fork-").tempdir_in("/var/lib").unwrap();
    set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    place
}

fn vassal(directory: &Path, more: &str) -> Vassal {
    let directory = directory.display();
    let text = format!("domains = ['a']\napp = 'a:a'\ndirectory = '{directory}'\n{more}");
    Vassal::parse(Path::new("/v/blog.toml"), &text).unwrap()
}

fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn workers_do_not_inherit_emperords_notify_socket() {
    let place = tempfile::tempdir().unwrap();
    let command = fork(place.path()).command(&["blog-1"]);
    assert!(command.get_envs().any(|it| it == (OsStr::new("NOTIFY_SOCKET"), None)));
}

#[tokio::test]
async fn root_starts_each_worker_as_its_apps_user() {
    skip::needs_root!();
    let place = open_place();
    let fork = fork(place.path());
    fs::create_dir(&fork.sockets).unwrap();
    let site = place.path().join("site");
    fs::create_dir(&site).unwrap();
    chown(&site, Some(NOBODY), None).unwrap();
    for more in ["user = 'nobody'", ""] {
        let mut vassal = vassal(&site, more);
        vassal.confinement.owner = fork.admit(&vassal).unwrap();
        let prepared = fork.prepare(&vassal).unwrap();
        // A later change of the owner doesn't matter.
        chown(&site, Some(1), None).unwrap();
        let (template, _stream) = fork.start_template(&vassal, &prepared).unwrap();
        let Start::Done(worker) =
            fork.start(&WorkerName::parse("blog-1").unwrap(), &vassal, &prepared).unwrap()
        else {
            panic!("it is started here")
        };
        chown(&site, Some(NOBODY), None).unwrap();
        let account = Account::numbered(NOBODY).unwrap().unwrap();
        for process in [template, worker] {
            let pid = process.identity().pid;
            assert_eq!(status(pid, "Uid:"), [NOBODY; 4].map(|it| it.to_string()).join(" "));
            assert_eq!(status(pid, "Gid:"), [account.gid; 4].map(|it| it.to_string()).join(" "));
            let groups = account.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            assert_eq!(status(pid, "Groups:"), groups);
            assert_eq!(status(pid, "NoNewPrivs:"), "1");
            process.signal(Signal::KILL);
            process.ended().await;
        }
        let folder = fork.sockets.join("blog").metadata().unwrap();
        assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (NOBODY, 0, 0o2750));
    }
}

/// Runs a script in place of workerd as another user, and returns what it wrote.
async fn left_by(script: &str) -> String {
    let place = open_place();
    let fork = fork(place.path());
    let site = place.path().join("site");
    fs::create_dir(&site).unwrap();
    chown(&site, Some(NOBODY), None).unwrap();
    let file = site.join("left");
    fs::write(&fork.workerd, format!("#!/bin/sh\nexec 3>{}\n{script}\n", file.display())).unwrap();
    fs::create_dir(&fork.sockets).unwrap();
    let worker = WorkerName::parse("blog-1").unwrap();
    let vassal = vassal(&site, "user = 'nobody'");
    let prepared = fork.prepare(&vassal).unwrap();
    let Start::Done(process) = fork.start(&worker, &vassal, &prepared).unwrap() else {
        panic!("it is started here")
    };
    process.ended().await;
    fs::read_to_string(file).unwrap()
}

/// Runs itself as another process in a session with a terminal, which `script` creates.
#[tokio::test]
async fn a_worker_of_another_user_has_no_terminal_from_the_start() {
    const NAME: &str = "launch::process::tests::a_worker_of_another_user_has_no_terminal_from_the_start";
    const INSIDE: &str = "TEST_HAS_A_TERMINAL";
    skip::needs_root!();
    skip::needs_program!("script");
    if env::var_os(INSIDE).is_none() {
        let test = env::current_exe().unwrap();
        let command = format!("exec '{}' --exact {NAME} --nocapture", test.display());
        let inside = Command::new("script").args(["-qec", &command, "/dev/null"]).env(INSIDE, "1").output();
        let inside = inside.unwrap();
        assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stdout));
        return;
    }
    assert!(File::open("/dev/tty").is_ok(), "this process has a terminal");
    let terminal =
        left_by("if (exec </dev/tty) 2>&3; then echo opened >&3; fi; cut -d' ' -f7 /proc/$$/stat >&3").await;
    assert!(terminal.ends_with("\n0\n") && !terminal.contains("opened"), "{terminal}");
}

#[tokio::test]
async fn a_worker_of_another_user_gets_a_minimal_environment() {
    skip::needs_root!();
    // Variables of cargo, or of another test runner.
    assert!(env::vars_os().any(|(name, _)| !is_for_others(&name)));
    let variables = left_by("env >&3").await;
    for line in variables.lines() {
        let name = line.split('=').next().unwrap();
        // The last four are set by the shell itself.
        let known = ["USER", "LOGNAME", "HOME", "PWD", "OLDPWD", "SHLVL", "_"];
        assert!(known.contains(&name) || is_for_others(OsStr::new(name)), "{line}");
    }
    assert!(variables.contains("USER=nobody\n") && variables.contains("PATH="), "{variables}");
}

#[tokio::test]
async fn root_runs_an_app_as_root_only_if_its_file_says_so() {
    skip::needs_root!();
    let place = open_place();
    let fork = fork(place.path());
    let error = fork.admit(&vassal(place.path(), "")).unwrap_err();
    assert!(error.contains("belongs to root: set `user`"), "{error}");
    assert_eq!(fork.admit(&vassal(place.path(), "user = 'root'")), Ok(None));
    let unknown = fork.prepare(&vassal(place.path(), "")).unwrap_err();
    assert!(unknown.to_string().contains("the user that blog runs as is unknown"), "{unknown}");
}

#[test]
fn impossible_settings_are_refused_with_a_hint() {
    let place = tempfile::tempdir().unwrap();
    set_permissions(place.path(), Permissions::from_mode(0o700)).unwrap();
    let fork = fork(place.path());
    let refused = |more: &str| fork.admit(&vassal(place.path(), more)).unwrap_err();
    let error = refused("user = 'no-such-user'");
    assert!(
        error.starts_with("`user` is no-such-user, which doesn't exist on this machine: create it"),
        "{error}"
    );
    let error = refused("user = 'nobody'");
    match geteuid().is_root() {
        // Only root may enter the folder.
        true => assert!(error.contains("is closed: `chmod o+x "), "{error}"),
        false => assert!(error.contains("which can't switch to another user: run it as root"), "{error}"),
    }
}
