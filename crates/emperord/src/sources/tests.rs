//! Real files, changed in the way editors and tools do.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// A watched app folder.
struct Watched {
    folder: TempDir,
    watcher: Watcher,
}

impl Watched {
    async fn new(files: &[&str]) -> Self {
        Self::with(files, |_| {}).await
    }

    async fn with(files: &[&str], change: impl FnOnce(&mut Sources)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| write(folder.path(), file, "1"));
        let mut sources = sources(folder.path());
        change(&mut sources);
        let mut watcher = sources.watch(now());
        assert_eq!(watcher.look().await, None, "what was written just before is no change");
        Self { folder, watcher }
    }

    fn write(&self, file: &str, text: &str) {
        write(self.folder.path(), file, text);
    }

    async fn next_reason(&mut self) -> String {
        let noticed = timeout(Duration::from_secs(20), self.watcher.next()).await.expect("a change is seen");
        match noticed {
            Noticed::Changed(changed) => changed.to_string(),
            Noticed::Limited(problem) => problem.to_string(),
        }
    }
}

fn sources(folder: &Path) -> Sources {
    let interpreter = Some(folder.join("bin/python"));
    Sources { directory: folder.to_owned(), interpreter, app: None, served: Vec::new(), env_file: None }
}

fn now() -> Since {
    Since::Moment(SystemTime::now())
}

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn code_templates_and_settings_are_watched() {
    let mut app = Watched::new(&["app.py", "blog/views.py", "templates/mail/a.html"]).await;
    for file in [
        "app.py",
        "blog/views.py",
        "blog/new/package.py",
        "templates/mail/a.html",
        "templates/mail/a.txt",
        "blog/jinja2/b.xml",
        "pages/c.jinja",
        ".env",
        "locale/de/LC_MESSAGES/django.mo",
    ] {
        app.write(file, "other");
        assert_eq!(app.next_reason().await, format!("{file} changed"));
    }
    fs::remove_file(app.folder.path().join("app.py")).unwrap();
    assert_eq!(app.next_reason().await, "app.py changed");
}

#[tokio::test]
async fn generated_files_are_not_watched() {
    let mut app = Watched::with(&["app.py", "env/pyvenv.cfg", "env/bin/x.py"], |it| {
        it.served.push(it.directory.join("public"));
    })
    .await;
    for file in [
        ".git/hooks/a.py",
        "__pycache__/app.pyc",
        "lib/site-packages/a.py",
        "node_modules/a/a.py",
        "env/lib/a.py",
        "build/lib/a.py",
        "static/a.html",
        "media/a.html",
        "public/a.html",
        "blog.egg-info/a.txt",
        "db.sqlite3",
        "db.sqlite3-journal",
        "app.log",
        "notes.txt",
        ".app.py.swp",
        "app.py~",
        "4913",
        "sub/.env",
    ] {
        app.write(file, "other");
    }
    // Only the last change is reported.
    app.write("app.py", "last");
    assert_eq!(app.next_reason().await, "app.py changed");
    // A package may also have such a name.
    app.write("media/__init__.py", "");
    assert_eq!(app.next_reason().await, "media/__init__.py and 1 more changed");
}

#[tokio::test]
async fn a_save_is_reported_once_however_it_is_done() {
    let mut app = Watched::new(&["app.py", "views.py"]).await;
    // How vim and PyCharm save.
    app.write("app.py~", "22");
    fs::rename(app.folder.path().join("app.py~"), app.folder.path().join("app.py")).unwrap();
    assert_eq!(app.next_reason().await, "app.py changed");
    for text in ["333", "4444", "55555"] {
        app.write("views.py", text);
        app.write("app.py", text);
    }
    assert_eq!(app.next_reason().await, "app.py and 1 more changed");
    app.write("views.py", "last");
    assert_eq!(app.next_reason().await, "views.py changed");
}

#[tokio::test]
async fn the_env_file_is_watched_wherever_it_is() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("secrets");
    fs::write(&outside, "1").unwrap();
    let mut app = Watched::with(&["app.py"], |it| it.env_file = Some(outside.clone())).await;
    fs::write(&outside, "other").unwrap();
    assert_eq!(app.next_reason().await, format!("{} changed", outside.display()));
    let mut app =
        Watched::with(&["app.py", "conf/a"], |it| it.env_file = Some(it.directory.join("conf/a"))).await;
    app.write("conf/a", "other");
    assert_eq!(app.next_reason().await, "conf/a changed");
}

#[tokio::test]
async fn the_file_named_by_app_is_watched_whatever_its_name() {
    let mut app =
        Watched::with(&["production.ini"], |it| it.app = Some(it.directory.join("production.ini"))).await;
    app.write("production.ini", "other");
    assert_eq!(app.next_reason().await, "production.ini changed");
}

#[tokio::test]
async fn a_replaced_folder_is_watched() {
    let root = tempfile::tempdir().unwrap();
    for release in ["one", "two"] {
        write(root.path(), &format!("{release}/app.py"), release);
    }
    let link = root.path().join("current");
    std::os::unix::fs::symlink("one", &link).unwrap();
    let mut watcher = sources(&link).watch(now());
    assert!(watcher.look().await.is_none());
    std::os::unix::fs::symlink("two", root.path().join("fresh")).unwrap();
    fs::rename(root.path().join("fresh"), &link).unwrap();
    let mut app = Watched { folder: root, watcher };
    assert_eq!(app.next_reason().await, "app.py changed");
    app.write("two/app.py", "another");
    assert_eq!(app.next_reason().await, "app.py changed");
}

#[tokio::test]
async fn files_are_polled_if_inotify_does_not_report_them() {
    let mut app = Watched::new(&["app.py"]).await;
    app.watcher.alarm = Alarm::Silent;
    app.write("app.py", "other");
    assert_eq!(app.next_reason().await, "app.py changed");
}

#[tokio::test]
async fn a_new_interpreter_is_noticed() {
    let mut app = Watched::new(&["app.py"]).await;
    app.write("bin/python", "");
    assert_eq!(app.next_reason().await, "bin/python changed");
}

#[tokio::test]
async fn an_edit_before_the_first_scan_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let since = SystemTime::now() - Duration::from_secs(60);
    write(folder.path(), "app.py", "");
    let watcher = sources(folder.path()).watch(Since::FailedStart(since));
    assert_eq!(Watched { folder, watcher }.next_reason().await, "app.py changed");
}

#[tokio::test(start_paused = true)]
async fn unwatchable_files_are_retried_each_minute() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = sources(folder.path());
    sources.interpreter = None;
    let began = Instant::now();
    let mut watcher = sources.watch(Since::FailedStart(SystemTime::now()));
    assert!(matches!(watcher.next().await, Noticed::Changed(it) if it.0.is_empty()));
    assert!(began.elapsed() >= ANYWAY_AFTER);
}

/// Runs itself in a user namespace, which has its own limits.
#[tokio::test]
async fn without_inotify_watches_files_are_polled_and_the_limit_is_named() {
    const NAME: &str = "sources::tests::without_inotify_watches_files_are_polled_and_the_limit_is_named";
    const INSIDE: &str = "TEST_HAS_FEW_WATCHES";
    if std::env::var_os(INSIDE).is_none() {
        let test = std::env::current_exe().unwrap();
        let command = format!(
            "echo 2 >/proc/sys/user/max_inotify_watches && exec '{}' --exact {NAME} --nocapture",
            test.display()
        );
        let inside = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &command])
            .env(INSIDE, "1")
            .output();
        let Ok(inside) = inside else { return };
        let text = String::from_utf8_lossy(&inside.stderr);
        if text.contains("unshare failed") || text.contains("max_inotify_watches") {
            return;
        }
        assert!(inside.status.success(), "{}{text}", String::from_utf8_lossy(&inside.stdout));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for file in ["app.py", "a/a.py", "b/b.py", "c/c.py"] {
        write(folder.path(), file, "1");
    }
    let watcher = sources(folder.path()).watch(now());
    let mut app = Watched { folder, watcher };
    let reason = app.next_reason().await;
    assert!(reason.contains("raise fs.inotify.max_user_watches"), "{reason}");
    app.write("c/c.py", "other");
    assert_eq!(app.next_reason().await, "c/c.py changed");
}
