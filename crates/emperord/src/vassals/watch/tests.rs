//! Tests with a real folder and inotify.

use std::fs::{self, File};
use std::time::SystemTime;

use super::*;
use crate::vassals::Reading;

const GOOD: &str = "domains = [\"a.example\"]\napp = \"a:a\"\ndirectory = \"/\"\n";

struct Folder {
    path: tempfile::TempDir,
    vassals: Vassals,
    seen: Vec<String>,
}

fn open(files: &[(&str, &str)]) -> Folder {
    let path = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(path.path().join(name), text).unwrap();
    }
    let (vassals, events) = Vassals::open(path.path()).unwrap();
    Folder { path, vassals, seen: events.iter().map(text).collect() }
}

impl Folder {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path.path().join(name), text).unwrap();
    }

    fn touch(&self, name: &str) {
        let file = File::options().write(true).open(self.path.path().join(name)).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
    }

    async fn next(&mut self) -> String {
        let events = self.vassals.changes().await;
        events.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

fn text(event: &FileEvent) -> String {
    let what = match &event.reading {
        Reading::Edited(version) => format!("edited to {}", version.vassal.workers),
        Reading::Touched(_) => "touched".to_owned(),
        Reading::Broken(diagnostics) => format!("broken: {}", diagnostics.problems()[0]),
        Reading::Gone => "gone".to_owned(),
        Reading::Missing(why) => format!("missing: {why:?}").to_lowercase(),
    };
    format!("{} {what}", event.name)
}

#[tokio::test]
async fn all_files_are_read_at_the_start() {
    let folder =
        open(&[("a.toml", GOOD), ("b.toml", "app ="), (".a.toml", ""), ("README", ""), ("Ü.toml", "")]);
    assert_eq!(folder.seen.len(), 2, "{:?}", folder.seen);
    assert_eq!(folder.seen[0], "a edited to 2");
    assert!(folder.seen[1].starts_with("b broken: "), "{:?}", folder.seen);
}

#[tokio::test]
async fn a_missing_folder_is_created() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/vassals");
    let (mut vassals, events) = Vassals::open(&path).unwrap();
    assert!(events.is_empty());
    fs::write(path.join("a.toml"), GOOD).unwrap();
    assert_eq!(text(&vassals.changes().await[0]), "a edited to 2");
}

#[tokio::test]
async fn a_file_is_created_edited_broken_fixed_touched_and_deleted() {
    let mut folder = open(&[]);
    folder.write("a.toml", GOOD);
    assert_eq!(folder.next().await, "a edited to 2");
    folder.write("a.toml", &format!("{GOOD}workers = 3"));
    assert_eq!(folder.next().await, "a edited to 3");
    folder.write("a.toml", &format!("{GOOD}wokers = 3"));
    assert!(folder.next().await.starts_with("a broken: unknown key"));
    folder.write("a.toml", GOOD);
    assert_eq!(folder.next().await, "a edited to 2");
    folder.touch("a.toml");
    assert_eq!(folder.next().await, "a touched");
    fs::remove_file(folder.path.path().join("a.toml")).unwrap();
    assert_eq!(folder.next().await, "a gone");
}

#[tokio::test]
async fn a_save_by_rename_is_one_edit() {
    let mut folder = open(&[("a.toml", GOOD)]);
    folder.write(".a.toml.swp", &format!("{GOOD}workers = 4"));
    fs::rename(folder.path.path().join(".a.toml.swp"), folder.path.path().join("a.toml")).unwrap();
    assert_eq!(folder.next().await, "a edited to 4");
}

#[tokio::test]
async fn writes_in_quick_succession_are_reported_once() {
    let mut folder = open(&[]);
    for workers in 1..=5 {
        folder.write("a.toml", &format!("{GOOD}workers = {workers}"));
    }
    assert_eq!(folder.next().await, "a edited to 5");
    folder.write("b.toml", GOOD);
    assert_eq!(folder.next().await, "b edited to 2");
}

#[tokio::test]
async fn a_rename_reports_the_removal_first() {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let mut folder = open(&[(&format!("{from}.toml"), GOOD)]);
        let path = folder.path.path();
        fs::rename(path.join(format!("{from}.toml")), path.join(format!("{to}.toml"))).unwrap();
        let mut seen = folder.next().await;
        if !seen.contains(", ") {
            seen = format!("{seen}, {}", folder.next().await);
        }
        assert_eq!(seen, format!("{from} gone, {to} edited to 2"));
    }
}

#[tokio::test]
async fn the_target_of_a_link_is_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("x");
    let mut folder = open(&[]);
    std::os::unix::fs::symlink(&target, folder.path.path().join("a.toml")).unwrap();
    fs::write(&target, GOOD).unwrap();
    assert_eq!(folder.next().await, "a edited to 2");
    fs::write(&target, format!("{GOOD}workers = 3")).unwrap();
    assert_eq!(folder.next().await, "a edited to 3");
    fs::remove_file(&target).unwrap();
    assert_eq!(folder.next().await, "a gone");
}

#[tokio::test]
async fn a_new_link_is_read() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("x");
    fs::write(&target, GOOD).unwrap();
    let mut folder = open(&[]);
    std::os::unix::fs::symlink(&target, folder.path.path().join("a.toml")).unwrap();
    assert_eq!(folder.next().await, "a edited to 2");
}

#[tokio::test]
async fn everything_is_read_after_lost_events() {
    let mut folder = open(&[("a.toml", GOOD), ("b.toml", GOOD), ("c.toml", GOOD)]);
    // A watch that reports nothing, as after an overflow.
    folder.vassals.inotify = readiness::inotify(Inotify::init().unwrap()).unwrap();
    folder.write("a.toml", &format!("{GOOD}workers = 7"));
    fs::remove_file(folder.path.path().join("b.toml")).unwrap();
    folder.vassals.due.note(folder.path.path(), Ok(vec![FolderEvent::Lost]));
    assert_eq!(folder.next().await, "b gone, a edited to 7");
    folder.write("c.toml", &format!("{GOOD}workers = 9"));
    assert_eq!(folder.next().await, "c edited to 9");
}

#[tokio::test]
async fn apps_of_a_vanished_folder_are_kept_until_it_is_back() {
    let mut folder = open(&[("a.toml", GOOD), ("b.toml", GOOD)]);
    let away = folder.path.path().with_extension("away");
    fs::rename(folder.path.path(), &away).unwrap();
    fs::write(away.join("a.toml"), format!("{GOOD}workers = 5")).unwrap();
    fs::remove_file(away.join("b.toml")).unwrap();
    let noticed = read_events(&mut folder.vassals.inotify).await;
    folder
        .vassals
        .due
        .note(&away, Ok(noticed.unwrap().into_iter().filter(|it| matches!(it, FolderEvent::Lost)).collect()));
    assert_eq!(folder.next().await, "a missing: vanished, b missing: vanished");
    fs::rename(&away, folder.path.path()).unwrap();
    assert_eq!(folder.next().await, "b gone, a edited to 5");
}

/// For example a folder that was emptied by mistake.
#[tokio::test]
async fn files_that_disappear_together_are_missing() {
    let mut folder = open(&[("a.toml", GOOD), ("b.toml", GOOD)]);
    for name in ["a.toml", "b.toml"] {
        fs::remove_file(folder.path.path().join(name)).unwrap();
    }
    assert_eq!(folder.next().await, "a missing: emptied, b missing: emptied");
    folder.write("a.toml", GOOD);
    assert_eq!(folder.next().await, "a edited to 2");
    folder.write("b.toml", &format!("{GOOD}workers = 3"));
    assert_eq!(folder.next().await, "b edited to 3");
}

/// For example a file system that was unmounted, or a link that points elsewhere.
#[tokio::test]
async fn files_that_a_replaced_folder_lacks_are_missing() {
    let mut folder = open(&[("a.toml", GOOD), ("b.toml", GOOD)]);
    let away = folder.path.path().with_extension("away");
    fs::rename(folder.path.path(), &away).unwrap();
    fs::create_dir(folder.path.path()).unwrap();
    folder.write("b.toml", &format!("{GOOD}workers = 3"));
    assert_eq!(folder.next().await, "a missing: replaced, b edited to 3");
    fs::remove_dir_all(&away).unwrap();
}

#[tokio::test]
async fn files_removed_one_by_one_and_an_only_file_are_deleted() {
    let mut folder = open(&[("a.toml", GOOD), ("b.toml", GOOD), ("c.toml", GOOD)]);
    for name in ["a", "b", "c"] {
        fs::remove_file(folder.path.path().join(format!("{name}.toml"))).unwrap();
        assert_eq!(folder.next().await, format!("{name} gone"));
    }
}

/// For example a deployment that swaps a link, or a file system that was mounted over the folder.
#[tokio::test]
async fn a_link_to_another_folder_is_followed() {
    let root = tempfile::tempdir().unwrap();
    for release in ["one", "two"] {
        fs::create_dir(root.path().join(release)).unwrap();
        fs::write(root.path().join(release).join("a.toml"), GOOD).unwrap();
    }
    fs::write(root.path().join("one/b.toml"), GOOD).unwrap();
    fs::write(root.path().join("two/c.toml"), GOOD).unwrap();
    let (link, fresh) = (root.path().join("current"), root.path().join("fresh"));
    std::os::unix::fs::symlink("one", &link).unwrap();
    let (mut vassals, _) = Vassals::open(&link).unwrap();
    std::os::unix::fs::symlink("two", &fresh).unwrap();
    fs::rename(&fresh, &link).unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&"c edited to 2".to_owned()) {
        seen.extend(vassals.changes().await.iter().map(text));
    }
    assert!(seen.contains(&"b missing: replaced".to_owned()), "{seen:?}");
    fs::remove_file(root.path().join("two/c.toml")).unwrap();
    assert_eq!(vassals.changes().await.iter().map(text).collect::<Vec<_>>(), ["c gone"]);
}
