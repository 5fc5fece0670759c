//! A folder with good and bad certificates: the good ones are served, and no restart fails.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use rustix::process::Signal;
use tempfile::NamedTempFile;
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::process;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;
use tests::wait::until;

const BAD: &str = "torn";

#[tokio::test]
async fn a_bad_certificate_does_not_affect_others() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        fs::create_dir(folder(stack))?;
        let [first, other, fixed] = [issue("wsgi")?, issue("other")?, issue("wsgi")?];
        put(stack, "bad.pem", BAD)?;
        put(stack, "alone.crt", &other.chain)?;
        put(stack, "good.pem", &first.pem())?;
        restart(stack).await?;
        first.client(stack)?.get("/hello").await?.expect(200)?;
        stack.logged(&["ERROR frontd", "ignoring it", "bad.pem", "put the whole chain there"]).await?;
        stack
            .logged(&["ERROR frontd", "ignoring it", "alone.crt", "alone.key", "check that it exists"])
            .await?;

        put(stack, "good.pem", BAD)?;
        put(stack, "other.pem", &other.pem())?;
        reload(stack).await?;
        other.is_shown(stack).await?;
        stack.logged(&["WARN frontd", "stays in use", "good.pem"]).await?;
        first.client(stack)?.get("/hello").await?.expect(200)?;

        put(stack, "good.pem", &fixed.pem())?;
        reload(stack).await?;
        fixed.is_shown(stack).await?;
        ensure!(first.client(stack)?.connect().await.is_err(), "the former certificate is shown yet");
        fixed.client(stack)?.get("/hello").await?.expect(200).map(drop)
    })
    .await
}

#[tokio::test]
async fn a_folder_created_after_the_start_is_read_on_reload() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let certificate = issue("wsgi")?;
        ensure!(certificate.client(stack)?.connect().await.is_err(), "the certificate is shown already");
        fs::create_dir(folder(stack))?;
        put(stack, "wsgi.pem", &certificate.pem())?;
        reload(stack).await?;
        certificate.is_shown(stack).await
    })
    .await
}

/// A reload reads the whole frontd.toml. If it has errors, nothing changes.
#[tokio::test]
async fn a_reload_reads_the_whole_file_or_changes_nothing() -> anyhow::Result<()> {
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| {
        let client = stack.client("wsgi", Protocol::Plain)?;
        let write = |text: &str| fs::write(stack.root().join("frontd.toml"), text);
        client.get("/hello?before").await?.expect(200)?;

        write("access_log = \"stderr\"\nwrong = 1\n")?;
        reload(stack).await?;
        stack.logged(&["ERROR frontd", "frontd.toml:2:1: unknown key `wrong`"]).await?;
        stack.logged(&["WARN frontd", "the previous configuration stays in use"]).await?;
        client.get("/hello?between").await?.expect(200)?;

        write("access_log = \"stderr\"\nshards = 9\n[limits]\nheader = \"1 KiB\"\n")?;
        reload(stack).await?;
        stack
            .logged(&["INFO frontd", "reloaded frontd.toml and certificates", "access_log", "limits.header"])
            .await?;
        stack.logged(&["WARN frontd", "after a restart of frontd", "shards"]).await?;
        let is_followed = async || {
            let path = format!("/hello?{}", "a".repeat(2000));
            Ok((client.get(&path).await?.status == 431).then_some(()))
        };
        until("the new limit of a head holds", is_followed).await?;
        client.get("/hello?after").await?.expect(200)?;
        stack.logged(&["request", "/hello?after", "status=200"]).await?;
        let log = stack.log();
        ensure!(!log.contains("/hello?between"), "a broken file is followed");
        Ok(())
    })
    .await
}

/// A certificate that only its own clients trust.
struct Issued {
    host: String,
    chain: String,
    key: String,
    trusted: NamedTempFile,
}

fn issue(app: &str) -> anyhow::Result<Issued> {
    let host = format!("{app}.localhost");
    let made = rcgen::generate_simple_self_signed([host.clone()])?;
    let mut trusted = NamedTempFile::new()?;
    trusted.write_all(made.cert.pem().as_bytes())?;
    Ok(Issued { host, chain: made.cert.pem(), key: made.signing_key.serialize_pem(), trusted })
}

impl Issued {
    fn pem(&self) -> String {
        [self.chain.as_str(), &self.key].concat()
    }

    /// A new client without TLS sessions: resumed sessions don't show a certificate.
    fn client(&self, stack: &Stack) -> anyhow::Result<Client> {
        Client::new(self.trusted.path(), &self.host, stack.https, Protocol::Http2)
    }

    async fn is_shown(&self, stack: &Stack) -> anyhow::Result<()> {
        let what = format!("the new certificate of {} is shown", self.host);
        until(&what, async || Ok(self.client(stack)?.connect().await.ok().map(drop))).await
    }
}

/// The folder of the stack's certificates, if it exists.
fn folder(stack: &Stack) -> PathBuf {
    stack.root().join("certificates")
}

fn put(stack: &Stack, file: &str, text: &str) -> anyhow::Result<()> {
    Ok(fs::write(folder(stack).join(file), text)?)
}

async fn reload(stack: &Stack) -> anyhow::Result<()> {
    process::signal(stack.daemon("frontd").await?, Signal::HUP)
}

async fn restart(stack: &Stack) -> anyhow::Result<()> {
    let frontd = stack.daemon("frontd").await?;
    stack.kill(frontd)?;
    let another = async || Ok((stack.daemon("frontd").await? != frontd).then_some(()));
    until("another frontd runs", another).await?;
    stack.all_ready().await
}
