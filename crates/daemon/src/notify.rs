//! Notifies the service manager about the state of this process (`sd_notify(3)`), if there is one.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

// The crate sd-notify sends on a blocking socket: a manager that doesn't read would stop the process.

/// The connection to the service manager.
#[derive(Debug, Clone)]
pub struct Notify {
    manager: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

/// A state to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The service is ready.
    Ready,
    /// The service reloads its configuration. `Ready` follows.
    Reloading,
    /// The service is stopping.
    Stopping,
    /// The watchdog's keep-alive.
    Alive,
}

impl Notify {
    /// From the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    #[must_use]
    pub fn from_env() -> Self {
        let of_another = env::var("WATCHDOG_PID").is_ok_and(|pid| pid != std::process::id().to_string());
        let interval = env::var("WATCHDOG_USEC").ok().and_then(|it| it.parse().ok());
        Self {
            watchdog: interval.filter(|_| !of_another).map(Duration::from_micros),
            ..Self::to(env::var_os("NOTIFY_SOCKET").as_deref())
        }
    }

    /// Uses a socket: a path, or `@` and an abstract name. Without a watchdog.
    #[must_use]
    pub fn to(socket: Option<&OsStr>) -> Self {
        Self { manager: socket.and_then(address), watchdog: None }
    }

    /// Reports a state. Never blocks, and never fails: errors are logged.
    pub fn report(&self, state: State) {
        let Some(manager) = &self.manager else { return };
        match send(manager, &state.to_string()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!(?state, "the service manager isn't reading: notification skipped");
            }
            Err(error) => tracing::warn!(?state, %error, "cannot notify the service manager"),
        }
    }

    /// Sends keep-alives at twice the rate that the watchdog requires. Without a watchdog, waits forever.
    pub async fn keep_alive(self) {
        self.keep_alive_while(|| true).await;
    }

    /// Like [`Self::keep_alive`], but skips keep-alives while `is_alive` returns `false`. If they are missing
    /// for too long, the service manager ends this process.
    pub async fn keep_alive_while(self, is_alive: impl Fn() -> bool) {
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(watchdog / 2);
        loop {
            ticks.tick().await;
            if is_alive() {
                self.report(State::Alive);
            }
        }
    }
}

fn address(socket: &OsStr) -> Option<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(socket).ok(),
    }
}

fn send(manager: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), manager)?;
    Ok(())
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Alive => f.write_str("WATCHDOG=1"),
            Self::Reloading => {
                let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
                write!(f, "RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn states_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.as_os_str()));
        for (state, message) in
            [(State::Ready, "READY=1"), (State::Stopping, "STOPPING=1"), (State::Alive, "WATCHDOG=1")]
        {
            notify.report(state);
            assert_eq!(received(&manager), message);
        }
        notify.report(State::Reloading);
        let message = received(&manager);
        let microseconds = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(microseconds.parse::<u64>().unwrap() > 0, "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_keep_alive_is_sent_while_the_service_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let watchdog = Some(Duration::from_secs(30));
        let notify = Notify { watchdog, ..Notify::to(Some(path.as_os_str())) };
        for (is_alive, expected) in [(true, 5), (false, 0)] {
            let watched = notify.clone().keep_alive_while(|| is_alive);
            assert!(tokio::time::timeout(Duration::from_secs(70), watched).await.is_err());
            let received = std::iter::from_fn(|| manager.recv(&mut [0; 64]).ok()).count();
            assert_eq!(received, expected, "alive: {is_alive}");
        }
    }

    #[test]
    fn an_abstract_socket_works() {
        let name = format!("imperium-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::to(Some(OsStr::new(&format!("@{name}")))).report(State::Ready);
        assert_eq!(received(&manager), "READY=1");
    }

    #[test]
    fn a_manager_that_does_not_read_never_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_pathname(&path).unwrap();
        let full = std::iter::repeat_with(|| send(&address, "READY=1")).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        Notify::to(Some(path.as_os_str())).report(State::Ready);
    }

    #[test]
    fn a_missing_manager_is_ignored() {
        Notify::to(None).report(State::Ready);
        Notify::to(Some(OsStr::new("/nonexistent/notify"))).report(State::Ready);
    }
}
