//! Determines the crates that are linked into the programs, for licenses and SBOM.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::build::PROGRAMS;
use super::target::Target;
use xtask::step;

/// A crate.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) licence: String,
    /// The folder of its source.
    pub(crate) folder: PathBuf,
    /// Whether it belongs to this workspace.
    pub(crate) ours: bool,
    /// The ids of its dependencies.
    pub(crate) needs: Vec<String>,
}

/// Returns all linked crates by id, without build and test dependencies.
pub(crate) fn packages(target: Target) -> anyhow::Result<BTreeMap<String, Package>> {
    let mut cargo = step::cargo();
    cargo.args(["metadata", "--format-version=1", "--locked", "--filter-platform", target.triple()]);
    let output = cargo.output().context("ask cargo for the dependencies")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    reachable(&serde_json::from_slice(&output.stdout)?)
}

/// The crates that the programs and the extension depend on.
fn reachable(metadata: &Value) -> anyhow::Result<BTreeMap<String, Package>> {
    let nodes = by_id(&metadata["resolve"]["nodes"])?;
    let known = by_id(&metadata["packages"])?;
    let ours: BTreeSet<_> = array(&metadata["workspace_members"]).iter().filter_map(Value::as_str).collect();
    let is_root = |id: &&str| {
        let name = known.get(id).and_then(|it| it["name"].as_str()).unwrap_or_default();
        PROGRAMS.contains(&name) || name == "pyworker"
    };
    let mut left: Vec<&str> = ours.iter().copied().filter(is_root).collect();
    let mut packages = BTreeMap::new();
    while let Some(id) = left.pop() {
        if packages.contains_key(id) {
            continue;
        }
        let needs = needs(nodes.get(id).with_context(|| format!("cargo metadata has no node {id}"))?);
        let package = known.get(id).with_context(|| format!("cargo metadata has no package {id}"))?;
        packages.insert(id.to_owned(), read(package, ours.contains(id), &needs)?);
        left.extend(needs);
    }
    Ok(packages)
}

fn read(package: &Value, ours: bool, needs: &[&str]) -> anyhow::Result<Package> {
    let text = |key: &str| package[key].as_str().map(str::to_owned);
    let name = text("name").context("a package without a name")?;
    let manifest = PathBuf::from(text("manifest_path").context("a package without a manifest")?);
    Ok(Package {
        version: text("version").context("a package without a version")?,
        licence: text("license").with_context(|| format!("{name} has no license"))?,
        folder: manifest.parent().context("a manifest without a folder")?.to_owned(),
        ours,
        needs: needs.iter().map(|&id| id.to_owned()).collect(),
        name,
    })
}

/// The ids of normal dependencies.
fn needs(node: &Value) -> Vec<&str> {
    let is_linked = |it: &&Value| array(&it["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    array(&node["deps"]).iter().filter(is_linked).filter_map(|it| it["pkg"].as_str()).collect()
}

fn by_id(values: &Value) -> anyhow::Result<BTreeMap<&str, &Value>> {
    let with_id = |it| {
        let Value::String(id) = &Value::get(it, "id")? else { return None };
        Some((id.as_str(), it))
    };
    let values = array(values).iter();
    values.map(|it| with_id(it).context("cargo metadata has something without an id")).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_linked_crates_are_included() {
        let packages = packages(Target::HOST).unwrap();
        let has = |name: &str| packages.values().any(|it| it.name == name);
        for (name, expected) in [
            ("frontd", true),
            ("hyper", true),
            ("pyo3", true),
            ("protox", false),
            ("xtask", false),
            ("rcgen", true),
        ] {
            assert_eq!(has(name), expected, "{name}");
        }
    }
}
