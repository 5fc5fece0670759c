//! The user of workers whose app's file doesn't set one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};

use rustix::process::Signal;
use supervise::Phase;

use super::emperor::{Emperor, Root, Worker};
use crate::pidfd::{Identity, Process};

/// Users that every system has.
const BIN: u32 = 2;
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn a_version_keeps_the_owner_it_was_accepted_with() {
    skip::needs_root!();
    let root = Root::open_to_all();
    let site = root.path().join("site");
    fs::create_dir(&site).unwrap();
    fs::set_permissions(&site, Permissions::from_mode(0o755)).unwrap();
    chown(&site, Some(NOBODY), None).unwrap();
    root.write_without_user("blog", &site, "");
    let emperor = Emperor::start(&root);
    let first = Worker::attach(&emperor, "blog", 1).await;
    first.ready().await;
    assert_eq!(user(first.pid), NOBODY);

    // Neither a replacement of an exited worker nor one of the next emperord looks the owner up again.
    chown(&site, Some(BIN), None).unwrap();
    let second = replaced(&emperor, first.pid).await;
    assert_eq!(user(second), NOBODY);
    emperor.stop().await;
    let emperor = Emperor::start(&root);
    let third = replaced(&emperor, second).await;
    assert_eq!(user(third), NOBODY);

    // Another version does.
    root.write_without_user("blog", &site, "# another\n");
    let fourth = replaced_by_itself(&emperor, third).await;
    assert_eq!(user(fourth), BIN);
}

#[tokio::test]
async fn a_folder_without_a_trusted_owner_is_refused_and_the_old_version_serves() {
    skip::needs_root!();
    let root = Root::open_to_all();
    root.write("blog", 1, "");
    let emperor = Emperor::start(&root);
    Worker::attach(&emperor, "blog", 1).await.ready().await;
    root.write_without_user("blog", root.path(), "");
    let status = emperor.app_until("blog", |it| !it.last_error.is_empty()).await;
    for part in
        ["blog.toml: `directory` ", "belongs to root: set `user`", "`user = \"root\"` runs the app as root"]
    {
        assert!(status.last_error.contains(part), "{}", status.last_error);
    }
    assert_eq!((status.phase, status.workers.len()), (Phase::Running, 1));
    // A symbolic link of another user in the path.
    let link = root.path().join("link");
    std::os::unix::fs::symlink(root.path(), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(NOBODY), None).unwrap();
    root.write_without_user("blog", &link, "");
    let error = "belongs to user 65534, who could change the app's user";
    emperor.app_until("blog", |it| it.last_error.contains(error)).await;
}

fn user(pid: u32) -> u32 {
    Identity::of(pid).unwrap().users()[0]
}

async fn replaced(emperor: &Emperor, pid: u32) -> u32 {
    emperor.app_until("blog", |it| it.workers.iter().any(|it| it.pid == pid)).await;
    Process::open(pid).unwrap().signal(Signal::KILL);
    replaced_by_itself(emperor, pid).await
}

/// Returns the worker that replaces this one.
async fn replaced_by_itself(emperor: &Emperor, pid: u32) -> u32 {
    let status = emperor.app_until("blog", |it| it.workers.iter().any(|it| it.pid != pid)).await;
    status.workers.iter().find(|it| it.pid != pid).unwrap().pid
}
