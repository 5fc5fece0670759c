//! Finds the process that listens on a port, for error messages.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTENING: &str = "0A";

/// A listening process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// The name of its program, such as `gunicorn`.
    pub(crate) program: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Returns the process that listens on the port of `address`, if this user may see it.
pub(crate) fn find(address: SocketAddr) -> Option<Owner> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|it| fs::read_to_string(it).ok())
        .flat_map(|table| listening(&table, address.port()))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|it| it.file_name().to_str()?.parse().ok()).find_map(|pid: u32| {
        let folder = Path::new("/proc").join(pid.to_string());
        let mut files =
            fs::read_dir(folder.join("fd")).ok()?.flatten().filter_map(|it| it.path().read_link().ok());
        files.any(|it| sockets.iter().any(|socket| it.as_os_str() == socket.as_str())).then_some(())?;
        Some(Owner { pid, program: program(&folder) })
    })
}

/// Returns the sockets that listen on `port`, in the notation of the links in `/proc/PID/fd`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1).is_some_and(|it| it.ends_with(&port)) && row.get(3) == Some(&LISTENING))
        .filter_map(|row| row.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect()
}

/// The file name of the program. For an interpreter, that of the script is more useful.
fn program(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split('\0').filter(|it| !it.is_empty());
    let name = |word: &str| Path::new(word).file_name().map(|it| it.to_string_lossy().into_owned());
    let first = words.next().and_then(name);
    let script = words.find(|it| !it.starts_with('-')).and_then(name);
    match (first, script) {
        (Some(first), Some(script)) if first.starts_with("python") => format!("{first} {script}"),
        (Some(first), _) => first,
        // A kernel thread, or a process that is exiting.
        (None, _) => fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_listening_process_is_found() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let owner = find(listener.local_addr().unwrap()).unwrap();
            assert_eq!(owner.pid, std::process::id());
            assert!(owner.program.starts_with("imperium"), "{owner}");
            let address = listener.local_addr().unwrap();
            drop(listener);
            assert_eq!(find(address), None);
        }
    }
}
