//! Finds circles among the imports of one folder's children.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::modules::Module;
use super::{Edges, Import};

/// A shortest circle: each import's target is the origin of the next one.
#[derive(Debug)]
pub(super) struct Circle<'a> {
    folder: &'a Module,
    imports: Vec<(&'a str, &'a Import)>,
}

impl fmt::Display for Circle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.imports.iter().map(|(from, _)| *from).collect();
        let first = names.first().unwrap_or(&"");
        write!(
            f,
            "in {}, modules import each other in a circle: {} → {first}",
            self.folder,
            names.join(" → ")
        )?;
        self.imports.iter().try_for_each(|(_, import)| {
            write!(f, "\n  {}: {} imports {}", import.place(), import.from, import.to)
        })
    }
}

/// Finds one circle for each group of children that import each other.
pub(super) fn find<'a>(edges: &'a Edges<'a>) -> Vec<Circle<'a>> {
    edges.iter().flat_map(|(folder, edges)| in_folder(folder, edges)).collect()
}

fn in_folder<'a>(folder: &'a Module, edges: &'a BTreeMap<(String, String), &'a Import>) -> Vec<Circle<'a>> {
    let mut found: Vec<Circle<'a>> = Vec::new();
    let names: BTreeSet<&str> = edges.keys().map(|(from, _)| from.as_str()).collect();
    for name in names {
        let is_known = found.iter().any(|it| it.imports.iter().any(|(from, _)| *from == name));
        if let Some(imports) = shortest(name, edges).filter(|_| !is_known) {
            found.push(Circle { folder, imports });
        }
    }
    found
}

/// The shortest way from a child back to itself.
fn shortest<'a>(
    name: &str,
    edges: &'a BTreeMap<(String, String), &'a Import>,
) -> Option<Vec<(&'a str, &'a Import)>> {
    let mut ways: Vec<Vec<(&str, &Import)>> = vec![Vec::new()];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let end = way.last().map_or(name, |(_, it): &(&str, &Import)| {
                edges.iter().find(|(_, import)| std::ptr::eq(**import, *it)).map_or(name, |((_, to), _)| to)
            });
            for ((from, to), import) in edges.iter().filter(|((from, _), _)| from == end) {
                let next: Vec<_> = way.iter().copied().chain([(from.as_str(), *import)]).collect();
                if to == name {
                    return Some(next);
                }
                if seen.insert(to) {
                    longer.push(next);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn circles_are_found_once() {
        let imports: Vec<Import> =
            [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("f", "a")]
                .iter()
                .map(|(from, to)| Import {
                    from: Module::parse(from),
                    to: Module::parse(to),
                    file: PathBuf::from("x.rs"),
                    line: 3,
                })
                .collect();
        let edges = super::super::edges(&imports);
        let found: Vec<String> = find(&edges).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("in crate, modules import each other in a circle: a → b → c → a\n"));
        assert!(found[1].contains(": d → e → d\n  x.rs:3: crate::d imports crate::e\n"), "{}", found[1]);
    }
}
