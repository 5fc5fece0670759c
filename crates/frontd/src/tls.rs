//! PLACEHOLDER of the lead, so that the crate compiles: the owner of this room replaces the whole file. This is the API that lib.rs, shard.rs and connection.rs use.
use std::io;

use config::frontd::Tls;

#[derive(Debug)]
pub(crate) struct Certificates;

impl Certificates {
    pub(crate) fn new(_tls: &Tls) -> io::Result<Self> {
        Ok(Self)
    }
    pub(crate) fn reload(&self) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn set_domains(&self, _domains: &[String]) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        unreachable!()
    }
}
