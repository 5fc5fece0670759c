//! If an app hangs while it starts, its stack is logged before its process is killed.

use std::fs;

use anyhow::ensure;
use tests::place::Place;
use tests::stack;
use tests::status::App;
use tests::vassal::Vassal;

/// Python that waits for a lock forever, and C code that holds the GIL forever.
const IMPORT: &str = "import threading\ndef wait_for_database():\n    threading.Lock().acquire() and \
                      threading.Event().wait()\nwait_for_database()\n";
const GIL: &str =
    "import ctypes\ndef compute_in_c():\n    while True: ctypes.PyDLL(None).sleep(1000)\ncompute_in_c()\n";
const HEALTH: &str = "import threading\ndef ask_broker():\n    threading.Event().wait()\n\
                      def application(environ, start_response):\n    ask_broker()\n";

#[tokio::test]
async fn the_stack_is_logged_before_the_process_is_killed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, text) in [("import", IMPORT), ("gil", GIL), ("health", HEALTH)] {
        fs::write(folder.path().join(format!("{name}_hangs.py")), text)?;
    }
    let cases = [
        ("import", "", "in wait_for_database", "importing the app"),
        ("gil", "", "in compute_in_c", "importing the app"),
        ("health", "health = \"/up\"", "in ask_broker", "answering its health path"),
        ("import", "preload = true", "in wait_for_database", "importing the app"),
        ("gil", "preload = true", "in compute_in_c", "importing the app"),
    ];
    let name = |module: &str, key: &str| {
        format!("{module}{}", if key.starts_with("preload") { "-preloaded" } else { "" })
    };
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        for (module, key, ..) in cases {
            let vassal = Vassal::new(&name(module, key), folder.path(), &format!("{module}_hangs")).key(key);
            stack.put(&vassal.table("[timeouts]\nstart = 8"))?;
        }
        for (module, key, function, what) in cases {
            let app = name(module, key);
            stack.logged(&[&app, "the start is about to exceed", &format!("it is still {what}")]).await?;
            stack.logged(&["File", &format!("{module}_hangs.py"), function]).await?;
            let killed = |app: &App| app.error().contains("was not ready within 8 s");
            let status = stack.until(&app, "it is killed", killed).await?;
            ensure!(status.error().contains("its stack is in the log"), "{}", status.error());
        }
        Ok(())
    })
    .await
}
