//! Files that are missing although nobody deleted them.

use supervise::Phase;

use super::emperor::{self, Emperor, Root, Worker};
use crate::messages::AdminError;

/// Starts two serving apps.
async fn serving(root: &Root) -> Emperor {
    let emperor = Emperor::start(root);
    for app in ["blog", "shop"] {
        root.write(app, 1, "");
        Worker::attach(&emperor, app, 1).await.ready().await;
        emperor.app_until(app, |it| it.phase == Phase::Running).await;
    }
    emperor
}

#[tokio::test]
async fn apps_of_an_emptied_folder_run_until_the_operator_forgets_them() {
    let root = Root::new();
    let emperor = serving(&root).await;
    root.delete("blog");
    root.delete("shop");
    let blog = emperor.app_until("blog", |it| !it.notices.is_empty()).await;
    assert!(
        blog.notices[0].contains("blog.toml is missing: all files of the folder disappeared together"),
        "{blog:?}"
    );
    assert_eq!((blog.phase, blog.workers.len()), (Phase::Running, 1));
    assert_eq!(emperor.watch().await.routes.len(), 2);

    // The file of one app is back with another number of workers. The other app is told to stop.
    root.write("blog", 2, "");
    let back = emperor.app_until("blog", |it| it.wanted == 2).await;
    assert!(back.notices.is_empty() && back.generation == 1, "{back:?}");
    let refusal = emperor.forget(&["blog"]).await.unwrap_err();
    assert!(matches!(refusal, AdminError::NotMissing { .. }), "{refusal}");
    assert_eq!(emperor.forget(&[]).await.unwrap()[0].as_str(), "shop");
    emperor.app_until("shop", |it| it.phase == Phase::Stopping).await;
    assert_eq!(emperor.watch().await.routes.len(), 1);
}

#[tokio::test]
async fn files_that_are_missing_at_the_start_stop_no_app() {
    let root = Root::new();
    let emperor = serving(&root).await;
    let before = emperor.app_until("blog", |_| true).await;
    emperor.stop().await;
    root.delete("blog");
    root.delete("shop");

    // Twice, since missing files are remembered.
    for _ in 0..2 {
        let emperor = Emperor::start(&root);
        let after = emperor.app_until("blog", |it| !it.notices.is_empty()).await;
        assert_eq!((after.phase, emperor::pids(&after)), (Phase::Running, emperor::pids(&before)));
        emperor.stop().await;
        // Another folder with other files, as after mounting a file system.
        root.replace_vassals();
        root.write("other", 1, "");
    }
}
