//! CPU-bound processes on the same machine, since servers are rarely alone on it.

use std::process::Command;
use std::thread::available_parallelism;

use crate::guard::Guard;
use crate::site::Site;

/// One process per CPU. They are stopped on drop.
#[derive(Debug)]
pub(crate) struct Neighbours(#[expect(dead_code, reason = "held until they are to end")] Vec<Guard>);

impl Neighbours {
    /// Starts them in the same session as everything else, so that the scheduler treats them like any other
    /// process.
    pub(crate) fn start(site: &Site) -> anyhow::Result<Self> {
        let mut endless = Command::new("sh");
        endless.args(["-c", "while :; do :; done"]);
        let processors = available_parallelism().map_or(1, usize::from);
        let start = |_| Guard::start("neighbour", &endless, &site.folder()?);
        (0..processors).map(start).collect::<anyhow::Result<_>>().map(Self)
    }
}
