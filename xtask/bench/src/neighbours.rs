//! Processes of others on the same machine, which compute without end: servers seldom have it for themselves.

use std::process::Command;
use std::thread::available_parallelism;

use super::guard::Guard;
use super::site::Site;

/// As many as there are processors; dropping them ends them.
#[derive(Debug)]
pub(crate) struct Neighbours(#[expect(dead_code, reason = "held until they are to end")] Vec<Guard>);

impl Neighbours {
    /// Starts them, in the session that everything else is in: the scheduler weighs each like any process.
    pub(crate) fn start(site: &Site) -> anyhow::Result<Self> {
        let mut endless = Command::new("sh");
        endless.args(["-c", "while :; do :; done"]);
        let processors = available_parallelism().map_or(1, usize::from);
        let start = |_| Guard::start("neighbour", &endless, &site.folder()?);
        (0..processors).map(start).collect::<anyhow::Result<_>>().map(Self)
    }
}
