//! Embeds the git commit that the program is built from, if it is known.

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

/// The abbreviated hash and date of the commit. None outside a checkout of this project, such as in an
/// unpacked source archive.
fn commit() -> Option<String> {
    // An unpacked source archive may lie inside the checkout of another project.
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("../..");
    root.join(".git").exists().then_some(())?;
    // git appends a line to `logs/HEAD` with each commit, on any branch.
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
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
