//! The levels of a crate, as the picture in ARCHITECTURE.md shows them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Import;

/// Separates one level from the next.
const DOWN: &str = "▼";
/// The names on a line are this far apart at least. Single spaces separate the words of an explanation.
const GAP: &str = "    ";

/// The names in a picture, each with its level. 0 is the highest one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Levels(BTreeMap<String, usize>);

/// Reads the picture below the heading that has the crate's name. None if there isn't one.
pub(super) fn read(text: &str, name: &str) -> Option<Levels> {
    let heading = format!("\n## Inside {name}\n");
    let section = text.split_once(&heading)?.1;
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let picture = section.split_once("```text\n")?.1.split_once("```")?.0;
    let mut level = 0;
    let mut levels = BTreeMap::new();
    for line in picture.lines() {
        if line.trim() == DOWN {
            level += 1;
        }
        let first_words = line.trim().split(GAP).filter_map(|it| it.split_whitespace().next());
        for word in first_words {
            levels.entry(word.trim_end_matches('/').to_owned()).or_insert(level);
        }
    }
    Some(Levels(levels))
}

impl Levels {
    /// Imports that point up, and modules that the picture doesn't have.
    pub(super) fn faults(
        &self,
        name: &str,
        modules: &BTreeMap<String, PathBuf>,
        imports: Option<&BTreeMap<(String, String), &Import>>,
    ) -> Vec<String> {
        let absent = modules.keys().filter(|it| !self.0.contains_key(*it));
        let absent = absent.map(|module| {
            format!("ARCHITECTURE.md, \"Inside {name}\": the picture has no level for `{module}`: add it")
        });
        let up = imports.into_iter().flatten().filter(|((from, to), _)| {
            let levels = self.0.get(from).zip(self.0.get(to));
            levels.is_some_and(|(from, to)| from > to)
        });
        let up = up.map(|((from, to), import)| {
            let (place, imported) = (import.place(), &import.to);
            format!("{place}: {from} imports {imported}, which is above it: see ARCHITECTURE.md, \"Inside {name}\", and move what both need below {from}, or let {to} pass it down")
        });
        absent.chain(up).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::Module;
    use super::*;

    const TEXT: &str = "# A

## Inside frontd

Text.

```text
 listen/   sockets of clients
   ▼
 service   the way    not a module
 body/     bytes
   ▼
 disk   threads for what blocks      mode    clock
```

## Inside workerd
";

    #[test]
    fn imports_that_point_up() {
        let levels = read(TEXT, "frontd").unwrap();
        assert!(read(TEXT, "workerd").is_none());
        let imports = [("listen", "service"), ("disk", "body"), ("mode", "clock"), ("body", "listen")];
        let imports = imports.map(|(from, to)| Import {
            from: Module::parse(from),
            to: Module::parse(to),
            file: "x.rs".into(),
            line: 3,
        });
        let edges = super::super::edges(&imports);
        let modules = ["listen", "service", "body", "disk", "mode", "clock", "extra"];
        let modules = modules.map(|it| (it.to_owned(), PathBuf::new())).into();
        let found = levels.faults("frontd", &modules, edges.get(&Module::default()));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("no level for `extra`"));
        assert!(found[1].starts_with("x.rs:3: body imports crate::listen, which is above it"));
        assert!(found[2].starts_with("x.rs:3: disk imports crate::body, which is above it"));
    }
}
