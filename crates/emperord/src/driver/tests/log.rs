//! Captures what the driver logs.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;

/// The log of this thread, while it is kept: a test's driver runs on the thread of the test.
pub(super) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _capture: DefaultGuard,
}

impl Log {
    pub(super) fn capture() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&text);
        let subscriber = tracing_subscriber::fmt().with_writer(move || Lines(Arc::clone(&lines))).finish();
        Self { text, _capture: tracing::subscriber::set_default(subscriber) }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock()).into_owned()
    }

    /// The lines that contain `words`.
    pub(super) fn lines_with(&self, words: &str) -> Vec<String> {
        self.text().lines().filter(|it| it.contains(words)).map(str::to_owned).collect()
    }
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
