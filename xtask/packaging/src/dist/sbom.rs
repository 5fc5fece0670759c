//! Creates the programs' SBOM in CycloneDX 1.5 format (<https://cyclonedx.org/docs/1.5/json/>).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::packages::Package;
use super::version::Version;

/// Returns the SBOM as JSON text.
pub(crate) fn text(packages: &BTreeMap<String, Package>, version: &Version) -> anyhow::Result<String> {
    let root = format!("pkg:generic/imperium@{}", version.text);
    let mut components: Vec<_> = packages.values().map(component).collect();
    components.sort_by_key(|it| it["bom-ref"].to_string());
    let ours: Vec<_> = packages.values().filter(|it| it.ours).map(purl).collect();
    let mut dependencies: Vec<_> = packages.values().map(|it| dependency(it, packages)).collect();
    dependencies.push(json!({ "ref": root, "dependsOn": ours }));
    dependencies.sort_by_key(|it| it["ref"].to_string());
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "bom-ref": root,
            "name": "imperium",
            "version": version.text,
            "purl": root,
            "licenses": [{ "expression": "Apache-2.0 OR MIT" }],
        }},
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&bill)?))
}

fn component(package: &Package) -> Value {
    json!({
        "type": "library",
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
        // Cargo formerly used a slash for `OR`.
        "licenses": [{ "expression": package.licence.replace('/', " OR ") }],
    })
}

fn dependency(package: &Package, packages: &BTreeMap<String, Package>) -> Value {
    let mut needs: Vec<_> = package.needs.iter().filter_map(|id| packages.get(id)).map(purl).collect();
    needs.sort();
    json!({ "ref": purl(package), "dependsOn": needs })
}

/// <https://github.com/package-url/purl-spec>
fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::packages::packages;
    use crate::dist::target::Target;

    #[test]
    fn every_dependency_is_a_component() {
        let version = Version { text: "1.2.3".to_owned(), epoch: 0 };
        let bill: Value =
            serde_json::from_str(&text(&packages(Target::HOST).unwrap(), &version).unwrap()).unwrap();
        let array = |value: &Value| value.as_array().unwrap().clone();
        let components: Vec<_> = array(&bill["components"]).iter().map(|it| it["bom-ref"].clone()).collect();
        assert!(components.iter().any(|it| it.as_str().unwrap().starts_with("pkg:cargo/hyper@")));
        for dependency in array(&bill["dependencies"]) {
            for needed in array(&dependency["dependsOn"]) {
                assert!(components.contains(&needed), "{needed} is no component");
            }
        }
    }
}
