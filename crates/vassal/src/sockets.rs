//! Checks the length of the paths of an app's sockets.

use api::WorkerName;
use config::{Diagnostics, EmperordConfig, Problem};

use crate::Vassal;

impl Vassal {
    /// Checks that the path of each worker's socket, below `run` of emperord's file, isn't too long.
    ///
    /// # Errors
    ///
    /// Returns an error with the app's file, the path and a hint.
    pub fn check_sockets(&self, emperord: &EmperordConfig) -> Result<(), Diagnostics> {
        // While old workers are replaced, there are more than `workers`, so their numbers may have one more
        // digit.
        let last = WorkerName { vassal: self.name.clone(), number: self.workers.saturating_mul(10) };
        let socket = emperord.worker_socket(&last);
        socket.map(drop).map_err(|error| Problem::of_file(&self.file, error.to_string()).into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::Layout;

    use super::*;

    #[test]
    fn a_name_that_is_too_long_for_its_sockets_is_refused_with_a_hint() {
        let layout = Layout::under(Path::new("/r")).unwrap();
        let emperord = EmperordConfig::new(&layout, Path::new("/w"));
        let check = |name: &str, workers: u16| {
            let text = format!("domains = ['a']\napp = 'a'\ndirectory = '/'\nworkers = {workers}");
            let vassal = Vassal::parse(Path::new(&format!("/v/{name}.toml")), &text).unwrap();
            vassal.check_sockets(&emperord).map_err(|it| it.to_string()).err()
        };
        assert_eq!(check("blog", 1000), None);
        let longest = (107 - "/r/run/workers//-10.sock".len()) / 2;
        assert_eq!(check(&"b".repeat(longest), 1), None);
        // The workers of a reload could have four digits.
        let error = check(&"b".repeat(longest), 100).unwrap();
        assert!(
            error.starts_with("/v/bbb") && error.contains(".toml: the socket path /r/run/workers/bbb"),
            "{error}"
        );
        assert!(error.contains("-1000.sock has 108 bytes") && error.contains("choose a shorter"), "{error}");
    }
}
