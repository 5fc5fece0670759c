//! Tells the program which commit it is built from, where git knows.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let var = |name: &str| env::var(name).unwrap_or_default();
    let build =
        format!("{}, {}-{}", var("PROFILE"), var("CARGO_CFG_TARGET_ARCH"), var("CARGO_CFG_TARGET_OS"));
    let version = var("CARGO_PKG_VERSION");
    let version = match commit() {
        Some(commit) => format!("{version} ({commit}, {build})"),
        None => format!("{version} ({build})"),
    };
    println!("cargo::rustc-env=IMPERIUM_VERSION={version}");
}

/// Its abbreviated hash and its date. None outside of a checkout of this project, such as in an archive of its source.
fn commit() -> Option<String> {
    // A checkout of something else may hold the archive.
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("../..");
    root.join(".git").exists().then_some(())?;
    // It has a line more with each commit, whichever branch that is on.
    for file in ["HEAD", "logs/HEAD"] {
        println!(
            "cargo::rerun-if-changed={}",
            root.join(git(&root, &["rev-parse", "--git-path", file])?).display()
        );
    }
    git(&root, &["log", "-1", "--format=%h %cs", "--abbrev=10"])
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}
