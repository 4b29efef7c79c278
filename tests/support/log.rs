//! What is logged, as text.

use std::{
    io::Write,
    sync::{Arc, LazyLock, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

/// Captures the log of this thread until it is dropped.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(crate) fn capture() -> Self {
        /// With a single subscriber in the process, tracing caches an event's interest from the
        /// first thread that reaches it, which may run another test. A second one prevents that.
        static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| {
            let nowhere = tracing_subscriber::fmt().with_writer(std::io::sink);
            tracing::Dispatch::new(nowhere.with_max_level(tracing::Level::TRACE).finish())
        });
        LazyLock::force(&SECOND);
        let text = Arc::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(Writer(Arc::clone(&text)))
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.lock().expect("no test panicked").clone()).expect("UTF-8")
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.text()
            .lines()
            .filter(|line| line.contains("tower_qstash"))
            .map(str::to_owned)
            .collect()
    }
}
