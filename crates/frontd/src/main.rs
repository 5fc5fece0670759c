//! Starts the front server.

mod allocator;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use config::Layout;
use config::frontd::FrontdConfig;
use daemon::logging::{self, Format};
use frontd::Mode;
use manual::Section;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// How long to wait at the end for files that are being written.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Exit status if a port can't be bound. The systemd unit doesn't restart frontd then: otherwise it could
/// take the port while the server that owns it restarts.
const PORT_UNAVAILABLE: u8 = 3;

/// The front server: terminates TLS, serves static files, queues requests and sends them to workers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Use the files below this folder instead of those in /etc, /run and /var
    #[arg(long)]
    root: Option<PathBuf>,
    /// The address for probes and metrics, instead of `admin` in frontd.toml
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Show more details on error pages, such as the configured hosts. Not for servers that others can reach
    #[arg(long)]
    development: bool,
    /// The format of log lines: `text`, `json` or `console`
    #[arg(long, default_value = "text")]
    log_format: Format,
}

fn main() -> ExitCode {
    let arguments: Arguments = manual::parse(Section::Daemons);
    let _last_lines = logging::init("frontd", arguments.log_format);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            if frontd::is_bind_error(&error) { ExitCode::from(PORT_UNAVAILABLE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let layout = arguments.root.map_or_else(|| Ok(Layout::system()), |it| Layout::under(&it))?;
    let admin = arguments.admin;
    let read = move || {
        let config = FrontdConfig::load(&layout)?;
        Ok(FrontdConfig { admin: admin.unwrap_or(config.admin), ..config })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(frontd::run(read, Mode::of_flag(arguments.development)));
    // A disk that hangs must not keep the process from exiting.
    runtime.shutdown_timeout(LAST_WRITES);
    ended
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        reference::Page::of("docs/reference/commands/frontd.md")
            .is(&reference::command(&Arguments::command()));
    }
}
