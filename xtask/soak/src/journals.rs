//! What each worker recorded before it started a request.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// By request, the processes that started it, with one entry for each time.
#[derive(Debug, Default)]
pub(crate) struct Journals(HashMap<u64, Vec<u32>>);

impl Journals {
    /// The processes that started a request, in no particular order.
    pub(crate) fn begun(&self, id: u64) -> &[u32] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Adds the journal of a process.
    pub(crate) fn note(&mut self, pid: u32, text: &str) -> anyhow::Result<()> {
        for line in text.lines() {
            let id = line.parse().with_context(|| format!("read {line:?} in the journal of {pid}"))?;
            self.0.entry(id).or_default().push(pid);
        }
        Ok(())
    }
}

/// Reads a folder of journals, which are named after the processes.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Journals> {
    let mut journals = Journals::default();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let pid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let pid = pid.with_context(|| format!("{} is named by no process", path.display()))?;
        journals.note(pid, &fs::read_to_string(&path)?)?;
    }
    Ok(journals)
}
