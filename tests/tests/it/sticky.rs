//! `sticky = "cookie"`: clients come back to the worker that served them, until it is replaced.

use std::fs;

use anyhow::{Context as _, ensure};
use tests::client::Protocol;
use tests::stack;
use tests::vassal::Vassal;

/// Says which process it is. `/hold` waits for the file `release`.
const APP: &str = "
import os, time

def application(environ, start_response):
    if environ['PATH_INFO'] == '/hold':
        open('held', 'w').close()
        while not os.path.exists('release'):
            time.sleep(0.01)
    start_response('200 OK', [])
    return [str(os.getpid()).encode()]
";

#[tokio::test]
async fn a_client_comes_back_to_its_worker_until_that_is_replaced() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("site.py"), APP)?;
    let vassal = Vassal::new("sticky", folder.path(), "site.py").workers(2).key("sticky = \"cookie\"");
    stack::with([vassal], async |stack| {
        stack.all_ready().await?;
        let (first, second) =
            (stack.client("sticky", Protocol::Http2)?, stack.client("sticky", Protocol::Http1)?);
        let (held, pid) = tokio::join!(first.get("/hold"), async {
            while !folder.path().join("held").exists() {
                tokio::task::yield_now().await;
            }
            let pid = second.get("/").await?.expect(200)?.text();
            fs::write(folder.path().join("release"), "")?;
            anyhow::Ok(pid)
        });
        let (held, pid) = (held?.expect(200)?.text(), pid?);
        ensure!(held != pid, "both were served by {pid}");
        let cookie = second.cookie("imperium_worker").context("a cookie")?;
        ensure!(cookie != pid && first.cookie("imperium_worker").is_some_and(|it| it != cookie), "{cookie}");
        for _ in 0..5 {
            for (client, expected) in [(&first, &held), (&second, &pid)] {
                let served = client.get("/").await?.expect(200)?.text();
                ensure!(served == *expected, "{served} has served a client of {expected}");
            }
        }

        stack.command("reload", &["sticky"]).await?;
        let served = second.get("/").await?.expect(200)?.text();
        ensure!(served != pid, "the old worker has served it");
        ensure!(second.cookie("imperium_worker").is_some_and(|it| it != cookie), "it has the old cookie");
        Ok(())
    })
    .await
}
