//! What kosoku reports.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The verdicts on what conforms to the standard.
const PASSED: [&str; 3] = ["OK", "NON-STRICT", "INFORMATIONAL"];

/// The outcome of the cases over one transport.
pub(crate) struct Report {
    transport: &'static str,
    passed: usize,
    /// Those that failed, and how.
    pub(crate) failed: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    behavior: String,
    behavior_close: String,
    #[serde(default)]
    reportfile: String,
}

impl Report {
    /// Reads an `index.json`.
    ///
    /// # Errors
    /// If it can't be read, or has no cases.
    pub(crate) fn read(transport: &'static str, index: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(index).with_context(|| format!("read {}", index.display()))?;
        let agents: BTreeMap<String, BTreeMap<String, Case>> =
            serde_json::from_str(&text).with_context(|| format!("read {}", index.display()))?;
        let folder = index.parent().unwrap_or(index);
        let (mut passed, mut failed) = (0, Vec::new());
        for (name, case) in agents.into_values().flatten() {
            let Case { behavior, behavior_close, reportfile } = case;
            if PASSED.contains(&&*behavior) && PASSED.contains(&&*behavior_close) {
                passed += 1;
            } else {
                let file = folder.join(reportfile);
                failed.push(format!("{name}: {behavior}, closing {behavior_close}: {}", file.display()));
            }
        }
        ensure!(passed + failed.len() > 0, "no cases match");
        Ok(Self { transport, passed, failed })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, passed, failed } = self;
        writeln!(f, "{transport:<6} {passed:>4} passed {:>4} failed", failed.len())?;
        failed.iter().try_for_each(|it| writeln!(f, "       {it}"))
    }
}
