//! Decides which keys of frontd.toml take effect at run time.

use super::FrontdConfig;

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// With a reload.
    Reload,
    /// When frontd is restarted.
    Restart,
}

struct Key {
    name: &'static str,
    effect: Effect,
    differs: fn(&FrontdConfig, &FrontdConfig) -> bool,
    apply: fn(&mut FrontdConfig, &FrontdConfig),
}

macro_rules! keys {
    ($($name:literal $effect:ident $($field:ident).+;)*) => {
        &[$(Key {
            name: $name,
            effect: Effect::$effect,
            differs: |old, new| old.$($field).+ != new.$($field).+,
            apply: |to, from| to.$($field).+.clone_from(&from.$($field).+),
        }),*]
    };
}

/// Every key of the file.
const KEYS: &[Key] = keys! {
    "http" Restart http;
    "https" Restart https;
    "admin" Restart admin;
    "shards" Restart shards;
    "drain" Reload drain;
    "access_log" Reload access_log;
    "spool" Restart spool;
    "state" Restart state;
    "emperord" Restart emperord;
    "tls.certificates" Reload tls.certificates;
    "tls.development" Restart tls.development;
    "limits.connections" Reload limits.connections;
    "limits.header" Reload limits.header_bytes;
    "limits.header_timeout" Reload limits.header_timeout;
    "limits.keep_alive" Reload limits.keep_alive;
    "limits.body_rate" Reload limits.body_rate;
    "limits.body_timeout" Reload limits.body_timeout;
    // Accepted connections inherit it from the listening sockets.
    "limits.send_timeout" Restart limits.send_timeout;
    "limits.send_memory" Restart limits.send_memory;
    "limits.spool" Restart limits.spool_bytes;
    "limits.spool_per_app" Restart limits.spool_per_app;
    "limits.spool_per_client" Restart limits.spool_per_client;
};

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The configuration to use from now on.
    pub config: FrontdConfig,
    /// The keys that took effect.
    pub changed: Vec<&'static str>,
    /// The keys that take effect when frontd is restarted.
    pub restart: Vec<&'static str>,
}

impl FrontdConfig {
    /// Applies the changes in `new` that can take effect at run time.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Reloaded {
        let mut config = self.clone();
        let (mut changed, mut restart) = (Vec::new(), Vec::new());
        for key in KEYS.iter().filter(|key| (key.differs)(self, new)) {
            match key.effect {
                Effect::Reload => {
                    (key.apply)(&mut config, new);
                    changed.push(key.name);
                }
                Effect::Restart => restart.push(key.name),
            }
        }
        Reloaded { config, changed, restart }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::SCHEMA;
    use super::*;
    use crate::{Layout, Source};

    fn parse(text: &str) -> FrontdConfig {
        let source = Source { path: "/r/frontd.toml".into(), text: text.to_owned() };
        FrontdConfig::parse(source, &Layout::under(Path::new("/r")).unwrap()).unwrap()
    }

    #[test]
    fn every_key_of_the_file_is_known() {
        let schema = SCHEMA.iter().flat_map(|table| {
            let prefix = if table.name.is_empty() { String::new() } else { format!("{}.", table.name) };
            table.keys.names().map(move |key| format!("{prefix}{key}"))
        });
        let mut schema: Vec<_> = schema.collect();
        let mut known: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        schema.sort();
        known.sort();
        assert_eq!(known, schema);
    }

    #[test]
    fn a_reload_applies_what_it_can_and_names_the_other_keys() {
        let old = parse("");
        let new = parse(
            "shards = 7\ndrain = '1s'\naccess_log = 'stderr'\nhttp = []\n[limits]\nheader = '2 KiB'\nspool = 0\n\
             [tls]\ncertificates = 'c'",
        );
        let Reloaded { config, changed, restart } = old.reloaded(&new);
        assert_eq!(changed, ["drain", "access_log", "tls.certificates", "limits.header"]);
        assert_eq!(
            restart,
            ["http", "shards", "limits.spool", "limits.spool_per_app", "limits.spool_per_client"]
        );
        assert_eq!((config.drain, config.limits.header_bytes), (Duration::from_secs(1), 2048));
        assert_eq!(config.tls.certificates.as_deref(), Some(Path::new("/r/c")));
        assert_eq!(
            (config.shards, &config.http, config.limits.spool_bytes),
            (old.shards, &old.http, old.limits.spool_bytes)
        );
        // Until the restart, each reload names them.
        assert_eq!(config.reloaded(&new).restart, restart);
        assert_eq!(config.reloaded(&new).changed, Vec::<&str>::new());
    }
}
