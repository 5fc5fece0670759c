//! Snapshot tests of the file that `imperium new` writes for each project in `tests/corpus`.
//!
//! Each case is a folder: `project` is the project, `arguments` has additional command-line arguments, one
//! per line, and `expected.toml` is the file that is written, followed by the remaining steps as comments.
//! The folder's name becomes the app's name. `IMPERIUM_CORPUS=write` updates `expected.toml`: review the diff
//! before you commit it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_project_gets_the_expected_file() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let writes = std::env::var_os("IMPERIUM_CORPUS").is_some_and(|it| it == "write");
    let mut wrong = BTreeMap::new();
    let cases: Vec<PathBuf> = fs::read_dir(&corpus).unwrap().map(|it| it.unwrap().path()).collect();
    for case in &cases {
        let (actual, expected) = (result(case), case.join("expected.toml"));
        if writes {
            fs::write(&expected, &actual).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != actual {
            wrong.insert(case.file_name().unwrap().to_owned(), actual);
        }
    }
    let wrong: Vec<_> =
        wrong.iter().map(|(name, actual)| format!("--- {}\n{actual}", name.display())).collect();
    assert!(wrong.is_empty(), "{} are not as expected:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() >= 40, "the corpus has shrunk to {}", cases.len());
}

/// Returns the file that is written, or the error. Paths are relative to the project.
fn result(case: &Path) -> String {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    let project = folder.join(case.file_name().unwrap());
    copy(&case.join("project"), &project);
    let mut command = Command::new(env!("CARGO_BIN_EXE_imperium"));
    command.env_remove("VIRTUAL_ENV").env_remove("IMPERIUM_ROOT").env("NO_COLOR", "1").env("COLUMNS", "400");
    command.args(["new", "--root"]).arg(&folder).args(arguments(case, &project)).current_dir(&folder);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let vassals = fs::read_dir(folder.join("vassals")).into_iter().flatten().flatten();
    let written: String = vassals.map(|it| fs::read_to_string(it.path()).unwrap()).collect();
    let actual = if output.status.success() {
        let left = printed.split_once("\nStill to do:\n").map(|(_, it)| it).unwrap_or_default();
        let left = left.split("\n\nNext:\n").next().unwrap_or_default();
        // If root runs the tests, the projects belong to root.
        let left = left.lines().filter(|it| !it.contains(" belongs to root"));
        let left: String =
            left.map(|it| format!("# still to do: {}\n", it.trim_start_matches("- "))).collect();
        if left.is_empty() { written } else { format!("{written}\n{left}") }
    } else {
        assert_eq!(written, "", "it failed, and wrote a file");
        let stderr = String::from_utf8(output.stderr).unwrap();
        stderr.lines().map(|it| format!("# {it}").trim_end().to_owned() + "\n").collect()
    };
    actual.replace(project.to_str().unwrap(), "PROJECT")
}

/// The project's folder, or the file or folder in it that the case names, followed by the other arguments.
fn arguments(case: &Path, project: &Path) -> Vec<String> {
    let given = fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let given: Vec<_> = given.lines().map(str::to_owned).collect();
    let (path, rest) = match given.as_slice() {
        [path, rest @ ..] if !path.starts_with('-') => (project.join(path), rest.to_owned()),
        _ => (project.to_owned(), given),
    };
    [path.display().to_string()].into_iter().chain(rest).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => assert!(fs::copy(&from, &to).is_ok(), "copy {}", from.display()),
        }
    }
}
