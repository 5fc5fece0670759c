//! Collects the installed files: the same paths below the archive's prefix and below `/usr` in the package.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::build::{EXTENSION, PROGRAMS};
use super::layout::{COMMAND, DOC, PRIVATE};
use super::packages::Package;
use super::target::Target;
use super::tree::{Kind, Tree, files_of};
use super::version::Version;
use super::{gzip, licences, pages, sbom, wheel};
use xtask::setup::Quietly as _;

/// Collects all files. `stripped` is the folder of the programs.
pub(crate) fn tree(
    stripped: &Path,
    scratch: &Path,
    packages: &BTreeMap<String, Package>,
    version: &Version,
    target: Target,
) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    programs(&mut tree, stripped)?;
    let wheel = wheel::package()?;
    tree.put(format!("share/imperium/{}", wheel.name), Kind::Plain, wheel.bytes);
    units(&mut tree)?;
    manual(&mut tree, stripped, scratch, target)?;
    documents(&mut tree)?;
    tree.put(format!("{DOC}/THIRD-PARTY-LICENSES"), Kind::Plain, licences::text(packages.values())?);
    tree.put(format!("{DOC}/imperium.cdx.json"), Kind::Plain, sbom::text(packages, version)?);
    Ok(tree)
}

/// Only the user's program is in PATH: other projects also have a program called `workerd`.
pub(crate) fn programs(tree: &mut Tree, stripped: &Path) -> anyhow::Result<()> {
    for name in PROGRAMS {
        let folder = if name == COMMAND { "bin" } else { PRIVATE };
        tree.put_file(format!("{folder}/{name}"), Kind::Program, &stripped.join(name))?;
    }
    tree.put_file(format!("{PRIVATE}/{EXTENSION}"), Kind::Plain, &stripped.join(EXTENSION))
}

fn units(tree: &mut Tree) -> anyhow::Result<()> {
    let deploy = xtask::root().join("deploy");
    for (to, from) in [
        ("lib/systemd/system", "systemd"),
        ("lib/sysusers.d", "sysusers.d"),
        ("lib/tmpfiles.d", "tmpfiles.d"),
    ] {
        tree.put_folder(to, &deploy.join(from))?;
    }
    Ok(())
}

fn documents(tree: &mut Tree) -> anyhow::Result<()> {
    let root = xtask::root();
    tree.put_folder(&format!("{DOC}/examples"), &root.join("deploy/examples"))?;
    pages::put(tree)?;
    for name in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT"] {
        tree.put_file(format!("{DOC}/{name}"), Kind::Plain, &root.join(name))?;
    }
    Ok(())
}

/// The programs write their man pages and completions themselves.
fn manual(tree: &mut Tree, programs: &Path, scratch: &Path, target: Target) -> anyhow::Result<()> {
    let folder = scratch.join("manual");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    for name in PROGRAMS {
        let program = programs.join(name);
        let mut command = target.emulator().map_or_else(|| Command::new(&program), |it| it.command(&program));
        command.arg("--write-manual").arg(&folder);
        command.quietly().context("have the programs write their man pages")?;
    }
    for file in files_of(&folder)? {
        let name = file.file_name().and_then(|it| it.to_str()).context("a page whose name is not UTF-8")?;
        let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        match place(name) {
            Place::Page(path) => tree.put(path, Kind::Plain, gzip(&bytes)?),
            Place::Completion(path) if is_of_the_command(&path) => tree.put(path, Kind::Plain, bytes),
            // Daemons aren't in PATH, so they need no completions.
            Place::Completion(_) => {}
        }
    }
    Ok(())
}

fn is_of_the_command(completion: &str) -> bool {
    let name = completion.rsplit('/').next().unwrap_or_default();
    name.trim_start_matches('_').trim_end_matches(".fish") == COMMAND
}

/// Where a man page or completion is installed.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Page(String),
    Completion(String),
}

fn place(name: &str) -> Place {
    match name.rsplit_once('.') {
        Some((program, "bash")) => Place::Completion(format!("share/bash-completion/completions/{program}")),
        Some((_, "fish")) => Place::Completion(format!("share/fish/vendor_completions.d/{name}")),
        Some((_, section)) => Place::Page(format!("share/man/man{section}/{name}.gz")),
        None => Place::Completion(format!("share/zsh/vendor-completions/{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_is_completed() {
        for (completion, expected) in [
            ("share/bash-completion/completions/imperium", true),
            ("share/zsh/vendor-completions/_imperium", true),
            ("share/fish/vendor_completions.d/imperium.fish", true),
            ("share/zsh/vendor-completions/_workerd", false),
            ("share/fish/vendor_completions.d/frontd.fish", false),
        ] {
            assert_eq!(is_of_the_command(completion), expected, "{completion}");
        }
    }

    #[test]
    fn pages_and_completions() {
        for (name, expected) in [
            ("frontd.8", Place::Page("share/man/man8/frontd.8.gz".to_owned())),
            ("imperium.bash", Place::Completion("share/bash-completion/completions/imperium".to_owned())),
            ("_imperium", Place::Completion("share/zsh/vendor-completions/_imperium".to_owned())),
            ("imperium.fish", Place::Completion("share/fish/vendor_completions.d/imperium.fish".to_owned())),
        ] {
            assert_eq!(place(name), expected, "{name}");
        }
    }
}
