//! Reloads frontd.toml at run time (SIGHUP), completely or not at all.

use std::sync::atomic::Ordering;

use config::Diagnostics;
use config::frontd::{FrontdConfig, Reloaded};
use tracing::{error, info, warn};

use crate::limits::descriptors::Descriptors;
use crate::listen::Front;

/// Applies what can change at run time, and logs which keys need a restart. An invalid file changes nothing.
pub(crate) fn reload(front: &Front, read: Result<FrontdConfig, Diagnostics>) {
    let new = match read {
        Ok(new) => new,
        Err(diagnostics) => {
            for problem in diagnostics.problems() {
                error!("{}", problem.line());
            }
            warn!("frontd.toml has a mistake: the previous configuration stays in use");
            return;
        }
    };
    let Reloaded { config, changed, restart } = front.shared.live.borrow().reloaded(&new);
    if let Err(error) = front.shared.certificates.reload(&config.tls) {
        let error = &error as &dyn std::error::Error;
        warn!(error, "can't read the certificates: the previous certificates and configuration stay in use");
        return;
    }
    if changed.contains(&"limits.connections") {
        let connections = Descriptors::new(config.limits.connections, front.shared.config.shards).connections;
        front.connections.store(connections, Ordering::Relaxed);
    }
    front.shared.live.send_replace(config.into());
    info!(changed = changed.join(", "), "reloaded frontd.toml and certificates");
    if !restart.is_empty() {
        warn!(keys = restart.join(", "), "these keys of frontd.toml take effect after a restart of frontd");
    }
}
