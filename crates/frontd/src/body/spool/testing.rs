//! Helpers for the tests of both spools.

use std::path::Path;

use config::frontd::Limits;
use tempfile::TempDir;

use super::{Account, SpoolFolder};
use crate::limits::clients::Clients;

pub(super) const KIB: usize = 1024;

/// An account without limits, in a folder that is newly created.
pub(super) fn folder() -> (TempDir, Account) {
    let temp = TempDir::new().unwrap();
    let [account, _] = accounts(&temp.path().join("made/spool"), [u64::MAX; 3]);
    (temp, account)
}

/// The accounts of two apps used by one address, with limits in total, per app and per address.
pub(super) fn accounts(path: &Path, [total, per_app, per_client]: [u64; 3]) -> [Account; 2] {
    let limits = Limits {
        spool_bytes: total,
        spool_per_app: per_app,
        spool_per_client: per_client,
        ..Limits::default()
    };
    let folder = SpoolFolder::create(path, per_app, std::num::NonZeroUsize::MIN).unwrap();
    let client = Clients::new(&limits, 1000).of([127, 0, 0, 1].into());
    ["blog", "shop"].map(|app| Account {
        folder: folder.clone(),
        app: app.into(),
        client: client.clone(),
        memory: client.connection(),
    })
}

/// Bytes that encode their offset.
pub(super) fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}
