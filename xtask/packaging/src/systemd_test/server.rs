//! Prepares the server before the installation: the package, the projects, and what the guide's `apt` and
//! `pip` would download, since this server has no network access.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::dist::Built;
use xtask::setup::Quietly as _;

/// The projects. Their hosts are `NAME.example`.
const PROJECTS: [&str; 2] = ["blog", "shop"];
/// Debian's Python version.
const PYTHON: &str = "3.11";

/// Prepares the server below `root`.
pub(crate) fn prepare(root: &Path) -> anyhow::Result<()> {
    let project = xtask::root().join("tests/apps/confined");
    for name in PROJECTS {
        copy_folder(&project, &root.join("root").join(name))?;
    }
    // The cached Debian has all packages that the guide installs. No package source is reachable.
    fs::write(root.join("etc/apt/sources.list"), "")?;
    fs::write(root.join("etc/pip.conf"), "[global]\nno-index = true\nfind-links = /opt/wheels\n")?;
    copy_folder(&wheels(&project)?, &root.join("opt/wheels"))
}

/// Puts a build of the package where the guide expects it, replacing any other. Returns its version.
pub(crate) fn put_package(root: &Path, built: &Built, build: Option<u32>) -> anyhow::Result<String> {
    let home = root.join("root");
    for entry in fs::read_dir(&home)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "deb") {
            fs::remove_file(path)?;
        }
    }
    let (name, package) = built.debian_package(build)?;
    fs::write(home.join(&name), package).with_context(|| format!("write {name}"))?;
    let version = name.split('_').nth(1).context("a package's name without a version")?;
    Ok(version.to_owned())
}

/// The project's dependencies in the tests' versions, in a folder that is kept.
fn wheels(project: &Path) -> anyhow::Result<PathBuf> {
    let target = xtask::root().join("target");
    let wheels = target.join("systemd-test/wheels");
    let mut pip = Command::new(target.join("dist/tools/bin/python"));
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    pip.args(["--python-version", PYTHON, "--platform", "manylinux2014_x86_64", "--dest"]).arg(&wheels);
    pip.arg("--constraint").arg(xtask::root().join("tests/apps/requirements.txt"));
    pip.arg("--requirement").arg(project.join("requirements.txt"));
    pip.quietly().context("fetch what the project needs")?;
    Ok(wheels)
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy_folder(&path, &to)?,
            false => drop(fs::copy(&path, &to).with_context(|| format!("copy {}", path.display()))?),
        }
    }
    Ok(())
}
