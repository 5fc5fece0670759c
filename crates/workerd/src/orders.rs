//! A template's communication with emperord before it becomes Python.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use api::worker::failed::Reason;
use api::worker::{Failed, Spec, TemplateOrder, TemplateReport, template_order, template_report};

/// The socket that is the standard input.
pub(crate) struct Orders(UnixStream);

impl Orders {
    /// Duplicates it. stdin itself is left for the Python that this process becomes.
    pub(crate) fn of_stdin() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?.into()))
    }

    /// Receives the spec to import.
    pub(crate) fn spec(&mut self) -> anyhow::Result<Spec> {
        let order = daemon::framed::receive(&mut self.0).context("read the spec from stdin")?;
        match order.and_then(|it: TemplateOrder| it.message) {
            Some(template_order::Message::Spec(spec)) => Ok(spec),
            _ => bail!("read the spec from stdin: it is missing: only emperord starts templates"),
        }
    }

    /// Reports why the app can't run.
    pub(crate) fn report(&mut self, reason: Reason, message: String) {
        let failed = Failed { reason: reason.into(), message, traceback: String::new() };
        let report = TemplateReport { message: Some(template_report::Message::Failed(failed)) };
        if let Err(error) = daemon::framed::send(&mut self.0, &report) {
            tracing::warn!(%error, "cannot reach emperord to report the failure");
        }
    }
}
