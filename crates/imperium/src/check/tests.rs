//! Snapshot tests of the output of `imperium check`.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

const MINIMAL: &str = "app = 'a'\ndirectory = '.'\n";

/// Checks files in a temporary folder, and compares stderr and stdout with `expected`, without colours and
/// with `ROOT` for the folder.
#[track_caller]
fn check(files: &[(&str, &str)], paths: &[&str], expected: (&str, &str)) {
    let root = tempfile::tempdir().unwrap();
    for folder in ["vassals", "apps"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    let paths: Vec<_> = paths.iter().map(|path| root.path().join(path)).collect();
    let checked = Checked::new(&paths, &Layout::under(root.path()).unwrap());

    let (mut stderr, mut stdout) = (Vec::new(), Vec::new());
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(200);
    checked.print(&handler, &mut stderr, &mut stdout).unwrap();
    // As root, neither the interpreters nor the users of these apps are checked, which adds lines.
    let stdout: Vec<u8> = stdout
        .split_inclusive(|it| *it == b'\n')
        .filter(|line| {
            !line.starts_with(b"interpreter not checked") && !line.starts_with(b"user not checked")
        })
        .flatten()
        .copied()
        .collect();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(root.path().to_str().unwrap(), "ROOT");
    assert_eq!((text(stderr).as_str(), text(stdout).as_str()), expected);
}

#[test]
fn valid_files_pass() {
    let blog = format!("{MINIMAL}domains = ['blog.example']");
    let files =
        [("vassals/blog.toml", blog.as_str()), ("frontd.toml", "shards = 1"), ("pyproject.toml", "x = 1")];
    check(&files, &[], ("", "2 files checked, all good\n"));
    check(&files, &[""], ("", "2 files checked, all good\n"));
    check(&files, &["vassals"], ("", "1 file checked, all good\n"));
    check(&files, &["vassals/blog.toml", "frontd.toml"], ("", "2 files checked, all good\n"));
}

/// emperord, `up` and `new` report the same.
#[test]
fn a_socket_path_that_is_too_long_is_reported() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("vassals")).unwrap();
    let file = root.path().join("vassals/blog.toml");
    fs::write(&file, format!("{MINIMAL}domains = ['blog.example']")).unwrap();
    fs::write(root.path().join("emperord.toml"), format!("run = '/{}'", "r".repeat(85))).unwrap();
    let layout = Layout::under(root.path()).unwrap();
    let checked = Checked::new(&[], &layout);
    let problems: Vec<_> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("blog-20.sock has 112 bytes, but the system allows only 107: choose a shorter"),
        "{problems:?}"
    );
    let vassal = Vassal::load(&file).unwrap();
    let expected = vassal.check_sockets(&emperord_config(&layout)).unwrap_err().to_string();
    assert_eq!(problems[0], expected);
}

#[test]
fn an_unusable_interpreter_is_reported() {
    let blog = format!("{MINIMAL}domains = ['blog.example']\npython = '/bin/ls'\nuser = 'root'\n");
    let stderr =
        "  × `python` names /bin/ls, which is no Python: it did not run a line of it (exit status: 2)
   ╭─[ROOT/vassals/blog.toml:4:10]
 3 │ domains = ['blog.example']
 4 │ python = '/bin/ls'
   ·          ─────────
 5 │ user = 'root'
   ╰────
  help: name a virtualenv's folder, or an interpreter that is CPython 3.10 or newer

";
    check(&[("vassals/blog.toml", &blog)], &[], (stderr, "1 file checked, 1 error\n"));
}

#[test]
fn interpreters_that_were_not_run_are_listed_in_one_line() {
    let reason = || "root asks only where the file sets `user`".to_owned();
    let checked = Checked {
        files: 2,
        not_asked: [(reason(), vec!["blog".to_owned(), "shop".to_owned()])].into(),
        ..Checked::default()
    };
    let mut stdout = Vec::new();
    checked.print(&GraphicalReportHandler::new(), &mut io::sink(), &mut stdout).unwrap();
    let expected =
        format!("interpreter not checked of blog, shop: {}\n2 files checked, all good\n", reason());
    assert_eq!(String::from_utf8(stdout).unwrap(), expected);
}

#[test]
fn each_error_has_a_line_number_and_a_hint() {
    let blog = format!("{MINIMAL}domains = ['blog.example']\n\nwokers = 3\n");
    let stderr = "  × unknown key `rum`
   ╭─[ROOT/emperord.toml:1:1]
 1 │ rum = 1
   · ───
   ╰────
  help: did you mean `run`?

  × unknown key `wokers`
   ╭─[ROOT/vassals/blog.toml:5:1]
 4 │ 
 5 │ wokers = 3
   · ──────
   ╰────
  help: did you mean `workers`?

";
    check(
        &[("vassals/blog.toml", &blog), ("emperord.toml", "rum = 1")],
        &[],
        (stderr, "2 files checked, 2 errors\n"),
    );
}

/// The reader of a file is determined by its name; in the vassals' folder of an installation, every file is
/// an app's.
#[test]
fn the_name_and_folder_of_a_file_determine_its_reader() {
    let app = format!("{MINIMAL}domains = ['a.example']\n");
    let files = [("vassals/frontd.toml", app.as_str()), ("emperord.toml", "")];
    check(&files, &[], ("", "2 files checked, all good\n"));
    check(
        &[("apps/frontd.toml", "shards = 1"), ("apps/a.toml", &app)],
        &["apps"],
        ("", "2 files checked, all good\n"),
    );
    check(
        &[("apps/a.toml", &app), ("emperord.toml", "vassals = 'apps'")],
        &[],
        ("", "2 files checked, all good\n"),
    );
}

#[test]
fn missing_static_folders_are_reported() {
    let app = format!("{MINIMAL}domains = ['a.example']\n[static]\n'/s/' = 'later'\n");
    let stdout = "ROOT/vassals/a.toml: static./s/: ROOT/vassals/later doesn't exist yet: requests for it get a 404 \
        until it does\n1 file checked, all good\n";
    check(&[("vassals/a.toml", &app)], &[], ("", stdout));
}

#[test]
fn conflicts_between_files_are_found() {
    let app = format!("{MINIMAL}domains = ['a.example']\n");
    let stderr = "  × `domains` has `a.example` with path `/`, which is taken by ROOT/vassals/a.toml
   ╭─[ROOT/vassals/b.toml:3:12]
 2 │ directory = '.'
 3 │ domains = ['a.example']
   ·            ───────────
   ╰────
  help: give one of the two another domain or path

";
    check(&[("vassals/a.toml", &app), ("vassals/b.toml", &app)], &[], (stderr, "2 files checked, 1 error\n"));
}

#[test]
fn other_files_are_skipped_and_counted() {
    let files = [("vassals/a.toml~", "x"), ("vassals/.a.toml.swp", "x")];
    let skipped = "skipped ROOT/vassals/a.toml~, which is no vassal file: those end in .toml\n";
    check(&files, &[], (skipped, "0 files checked, all good\n"));
    let refused =
        "  × ROOT/vassals/a.toml~: isn't the file of an app: its name must end in `.toml`, and not begin with a dot

  × ROOT/nono: cannot be read: No such file or directory (os error 2)

";
    check(&files, &["vassals/a.toml~", "nono"], (refused, "2 files checked, 2 errors\n"));
}

#[test]
fn an_emperord_that_does_not_answer_is_not_said_to_be_absent() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::under(root.path()).unwrap();
    fs::create_dir_all(layout.vassals()).unwrap();
    fs::create_dir(&layout.run).unwrap();
    let app = format!("{MINIMAL}domains = ['a.example']\n[limits]\nmemory = '500 MB'\n");
    fs::write(layout.vassals().join("a.toml"), app).unwrap();
    let told = || {
        let (mut stderr, mut stdout) = (Vec::new(), Vec::new());
        let checked = Checked::new(&[], &layout);
        checked.print(&GraphicalReportHandler::new(), &mut stderr, &mut stdout).unwrap();
        String::from_utf8(stdout).unwrap()
    };
    let text = told();
    assert!(
        text.contains(
            "limits not checked of a: emperord, which can tell whether they can be set, doesn't run\n"
        ),
        "{text}"
    );
    let listener = std::os::unix::net::UnixListener::bind(layout.emperord_socket()).unwrap();
    let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let text = told();
    hangs_up.join().unwrap();
    let socket = layout.emperord_socket();
    assert!(
        text.contains(&format!("limits not checked of a: emperord at {} didn't answer: ", socket.display())),
        "{text}"
    );
}

#[test]
fn only_checks_the_file_of_one_daemon() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::under(root.path()).unwrap();
    let check = || Checked::daemon(&layout.frontd_toml(), Reader::Frontd, &layout);
    assert_eq!((check().files, check().problems.len()), (0, 0));
    fs::write(layout.emperord_toml(), "rum = 1").unwrap();
    fs::write(layout.frontd_toml(), "shard = 1").unwrap();
    assert_eq!((check().files, check().problems.len()), (1, 1));
}
