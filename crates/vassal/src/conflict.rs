//! Finds apps that claim the same host and path.

use std::collections::HashMap;
use std::path::PathBuf;

use config::{Diagnostics, Document, Problem, Source, Wrong};

use crate::{Domain, MountPath, SCHEMA, Vassal};

/// Two apps that claim the same host and path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`domains` has `{domain}` with path `{path}`, which is taken by {}: {HINT}",
    .taken_by.display()
)]
pub struct Conflict {
    /// The host.
    pub domain: Domain,
    /// The path on this host.
    pub path: MountPath,
    /// The file that comes later and doesn't get it.
    pub file: PathBuf,
    /// The file that comes first and gets it.
    pub taken_by: PathBuf,
}

/// All hosts and paths that are claimed twice. The first app gets it.
pub fn conflicts<'a>(vassals: impl IntoIterator<Item = &'a Vassal>) -> Vec<Conflict> {
    let mut owners = HashMap::new();
    let mut conflicts = Vec::new();
    for vassal in vassals {
        for domain in &vassal.domains {
            let owner = *owners.entry((domain, &vassal.path)).or_insert(vassal);
            if owner.file != vassal.file {
                conflicts.push(Conflict {
                    domain: domain.clone(),
                    path: vassal.path.clone(),
                    file: vassal.file.clone(),
                    taken_by: owner.file.clone(),
                });
            }
        }
    }
    conflicts
}

const HINT: &str = "give one of the two another domain or path";

impl Conflict {
    /// The conflict as a diagnostic, with its line in the current file.
    #[must_use]
    pub fn diagnostics(&self) -> Diagnostics {
        match self.located() {
            Ok(()) => Problem::of_file(&self.file, self.to_string()).into(),
            Err(diagnostics) => diagnostics,
        }
    }

    fn located(&self) -> Result<(), Diagnostics> {
        let mut document = Document::parse(Source::read(&self.file)?, SCHEMA)?;
        document.list("domains", |text| match Domain::parse(text) {
            Ok(domain) if domain == self.domain => Err(self.wrong()),
            _ => Ok(()),
        });
        document.finish(Some(()))
    }

    fn wrong(&self) -> Wrong {
        let Self { domain, path, taken_by, .. } = self;
        Wrong::new(format!("has `{domain}` with path `{path}`, which is taken by {}", taken_by.display()))
            .hint(HINT)
    }
}
