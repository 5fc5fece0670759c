//! The apps of the test: of one code, each with a user, a folder and a secret of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tests::place::Place;

use super::container::Container;
use super::install::put;

/// Their names; hosts are `NAME.example`.
pub(crate) const APPS: [&str; 3] = ["blog", "shop", "third"];

/// Writes their code, and a certificate for both.
pub(crate) fn files(root: &Path, place: &Place) -> anyhow::Result<()> {
    for app in APPS {
        let folder = root.join("srv").join(app);
        put(&place.apps.join("confined/app.py"), &folder.join("app.py"), 0o644)?;
        fs::write(folder.join("secret"), app)?;
    }
    let hosts = APPS.map(|app| format!("{app}.example"));
    let made = rcgen::generate_simple_self_signed(hosts).context("make a certificate")?;
    fs::write(root.join("srv/site.crt"), made.cert.pem())?;
    fs::write(root.join("srv/site.key"), made.signing_key.serialize_pem())?;
    Ok(fs::set_permissions(root.join("srv/site.key"), Permissions::from_mode(0o600))?)
}

/// As the guide says: a user for each app, to whom its folder belongs, and the certificate.
pub(crate) fn prepare(container: &Container) -> anyhow::Result<()> {
    for app in APPS {
        container.run(&format!(
            "useradd --system --user-group --home-dir /srv/{app} --shell /usr/sbin/nologin {app}
             chown -R {app}:{app} /srv/{app}
             chmod 750 /srv/{app}
             chmod 600 /srv/{app}/secret"
        ))?;
    }
    container
        .run("install -o root -g frontd -m 640 /srv/site.crt /srv/site.key /etc/imperium/certificates/")?;
    Ok(())
}

/// Writes the file of an app, whole at once.
pub(crate) fn deploy(container: &Container, app: &str, more: &str) -> anyhow::Result<()> {
    let text = format!(
        "domains = [\"{app}.example\"]\napp = \"app:application\"\ndirectory = \"/srv/{app}\"\n{more}"
    );
    let file = container.root().join("etc/imperium/vassals").join(format!("{app}.toml"));
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &file)).context("write the app's file")
}

/// Takes the file of an app away.
pub(crate) fn remove(container: &Container, app: &str) -> anyhow::Result<()> {
    let file = container.root().join("etc/imperium/vassals").join(format!("{app}.toml"));
    fs::remove_file(file).context("remove the app's file")
}
