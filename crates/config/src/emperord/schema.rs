//! The schema of emperord's file.

use crate::schema::{Key, Kind, Schema, Table};

/// The keys of `emperord.toml`.
pub const SCHEMA: Schema = &[Table::root(&[
    Key::new("vassals", Kind::Path, "The folder of the apps' files.").default("\"/etc/imperium/vassals\""),
    Key::new("run", Kind::Path, "The folder of sockets: `emperord.sock`, and those of the workers.")
        .default("\"/run/imperium\""),
    Key::new(
        "state",
        Kind::Path,
        "The folder of state that outlives emperord, such as the list of running workers.",
    )
    .default("\"/var/lib/imperium\""),
    Key::new("workerd", Kind::Path, "The program that becomes a worker.")
        .varies("the one next to emperord")
        .example("\"/usr/lib/imperium/workerd\""),
    Key::new(
        "concurrent_starts",
        Kind::Integer(1, 10_000),
        "How many workers of all apps may start at the same time. The others wait; `timeouts.start` doesn't include \
         this wait.",
    )
    .varies("twice the number of processors")
    .example("8"),
])];
