//! Checks the apps with a visitor's requests, and prints a line for each.

use anyhow::{Context as _, bail};
use tests::client::{Client, Protocol};
use tests::place::Place;
use tests::stack::Stack;
use tests::visit;

/// Serves the apps on free ports from a temporary folder, sends requests, and stops them.
pub(crate) fn run(place: Place) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir().context("make a folder for Django's database")?;
    let apps = super::apps(&place, folder.path())?;
    let stack = Stack::start(place, apps)?;
    let mut check = Check::default();
    runtime.block_on(visit(&stack, &mut check));
    if check.failed > 0 {
        stack.show_log();
    }
    check.line("stop: no process and no socket is left", stack.stop());
    if check.failed > 0 { bail!("{} of {} checks failed", check.failed, check.count) } else { Ok(()) }
}

async fn visit(stack: &Stack, check: &mut Check) {
    check.line("start: every worker is ready", stack.all_ready().await);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        if let Err(error) = visit_over(stack, protocol, check).await {
            check.line(&format!("{protocol}: a client"), Err(error));
        }
    }
}

async fn visit_over(stack: &Stack, protocol: Protocol, check: &mut Check) -> anyhow::Result<()> {
    let client = |app| stack.client(app, protocol);
    let (flask, django, pyramid) = (client("flask")?, client("django")?, client("pyramid")?);
    let fastapi = client("fastapi")?;
    check.line(&format!("{protocol}: flask: its page and style"), visit::flask_page(&flask).await);
    check.line(&format!("{protocol}: pyramid: its page and style"), visit::pyramid_page(&pyramid).await);
    check.line(&format!("{protocol}: fastapi: its page and style"), visit::fastapi_page(&fastapi).await);
    check.line(&format!("{protocol}: fastapi: events"), visit::fastapi_events(&fastapi).await);
    check.line(&format!("{protocol}: django: its page and style"), visit::django_page(&django).await);
    check
        .line(&format!("{protocol}: django: the admin wants a login"), visit::django_stranger(&django).await);
    check.line(&format!("{protocol}: django: a forged form is refused"), visit::django_csrf(&django).await);
    check.line(&format!("{protocol}: django: log in"), visit::django_login(&django).await);
    check.line(&format!("{protocol}: django: a session"), visit::django_session(&django).await);
    check.line(&format!("{protocol}: django: add a row"), visit::django_add_row(&django).await);
    let style = visit::django_style(&django, &stack.place).await;
    check.line(&format!("{protocol}: django: the admin's style"), style);
    for (name, client) in [("flask", flask), ("django", django), ("pyramid", pyramid), ("fastapi", fastapi)] {
        check.line(
            &format!("{protocol}: {name}: one of its workers answers"),
            pid(stack, name, &client).await,
        );
    }
    Ok(())
}

async fn pid(stack: &Stack, name: &str, client: &Client) -> anyhow::Result<()> {
    let pid = visit::pid(client).await?;
    let status = stack.status().await?;
    let workers = status.app(name).context("the app's status")?.ready();
    if workers.contains(&pid) { Ok(()) } else { bail!("{pid} is none of {workers:?}") }
}

#[derive(Default)]
struct Check {
    count: usize,
    failed: usize,
}

impl Check {
    #[expect(clippy::print_stdout, reason = "the lines are what is asked for")]
    fn line(&mut self, what: &str, outcome: anyhow::Result<()>) {
        self.count += 1;
        match outcome {
            Ok(()) => println!("ok    {what}"),
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {what}: {error:#}");
            }
        }
    }
}
