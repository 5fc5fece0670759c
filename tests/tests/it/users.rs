//! The users that apps run as if emperord starts them itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack;
use tests::status::App;
use tests::vassal::Vassal;

const APP: &str = r#"
import json, os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"users": os.getresuid(), "groups": os.getgroups(), "home": os.environ["HOME"]}).encode()]
"#;

const NOBODY: u32 = 65_534;

fn others_can_run_the_programs() -> anyhow::Result<bool> {
    let binaries = Place::of_tests()?.binaries;
    let is_open = |it: &Path| it.metadata().is_ok_and(|it| it.mode() & 0o001 != 0);
    Ok(binaries.ancestors().all(is_open))
}

#[tokio::test]
async fn an_app_runs_as_its_user_with_and_without_preload() -> anyhow::Result<()> {
    skip::needs_root!();
    if !others_can_run_the_programs()? {
        skip::skip!("other users can't reach the programs of this checkout");
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    fs::write(folder.path().join("who.py"), APP)?;
    stack::with([], async |stack| {
        fs::set_permissions(stack.root(), Permissions::from_mode(0o711))?;
        for preload in ["false", "true"] {
            let name = format!("preload-{preload}");
            let vassal = Vassal::new(&name, folder.path(), "who");
            stack.put(&vassal.key("user = \"nobody\"").key(&format!("preload = {preload}")))?;
            stack.ready(&name, 1).await?;
            let client = stack.client(&name, Protocol::Http1)?;
            let report = client.get("/").await?.expect(200)?.json()?;
            ensure!(report["users"] == serde_json::json!([NOBODY, NOBODY, NOBODY]), "{report}");
            ensure!(!report["groups"].to_string().contains("[0"), "{report}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn invalid_users_are_refused_and_root_has_to_be_named() -> anyhow::Result<()> {
    skip::needs_root!();
    if !others_can_run_the_programs()? {
        skip::skip!("other users can't reach the programs of this checkout");
    }
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("who.py"), APP)?;
    stack::with([], async |stack| {
        fs::set_permissions(stack.root(), Permissions::from_mode(0o700))?;
        let refused = async |text: &str, why: &'static str| {
            stack.write("who", text)?;
            let is_told = |app: &App| app.error().contains(why) && app.workers.is_empty();
            stack.until("who", why, is_told).await
        };
        let vassal = Vassal::new("who", folder.path(), "who");
        let unnamed = vassal.text_for(false);
        // The path contains a world-writable folder.
        refused(&unnamed, "`directory` doesn't determine the user of the app").await?;
        refused(&format!("{unnamed}user = \"no-such-user\"\n"), "which doesn't exist on this machine")
            .await?;
        chown(folder.path(), Some(NOBODY), None)?;
        refused(&format!("{unnamed}user = \"nobody\"\n"), "is closed: `chmod o+x ").await?;
        stack.put(&vassal)?;
        stack.ready("who", 1).await?;
        Ok(())
    })
    .await
}
