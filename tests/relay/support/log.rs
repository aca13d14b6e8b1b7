//! The relay's log and its panics, kept for the test and shown when it fails.
//!
//! One buffer for the process: nextest runs each test in a process of its own. Under `cargo test` the lines of tests side by side mix.

use std::{
    io,
    sync::{LazyLock, Mutex, Once, PoisonError},
};

use tokio::sync::watch;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Keeps what is logged, from the first call on. Gives the number of lines so far.
pub(crate) fn capture() -> usize {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("warn,masque_relay=trace"))
            .with_ansi(false)
            .without_time()
            .with_writer(Lines)
            .init();
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Tests run on threads named after them, in modules of this binary; the relay's workers are named otherwise.
            let thread = std::thread::current();
            if !thread.name().is_some_and(|name| name == "main" || name.contains("::")) {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
            }
            default(panic);
        }));
    });
    LINES.borrow().len()
}

/// All lines so far but the first `skip`.
pub(crate) fn lines(skip: usize) -> Vec<String> {
    LINES.borrow().iter().skip(skip).cloned().collect()
}

/// Waits for a line after the first `skip` that contains `needle`.
pub(crate) async fn line(skip: usize, needle: &str) -> String {
    let find = |lines: &Vec<String>| lines.iter().skip(skip).find(|line| line.contains(needle)).cloned();
    let mut lines = LINES.subscribe();
    let lines = lines.wait_for(|lines| find(lines).is_some()).await.expect("the sender is static");
    find(&lines).expect("just seen")
}

/// What panicked outside the tests' own threads.
pub(crate) fn panics() -> Vec<String> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Shows the log; the test runner captures it with the rest of the test's output.
pub(crate) fn print(skip: usize) {
    println!("--- the relay's log ---");
    for line in lines(skip) {
        println!("{line}");
    }
    println!("--- end of the relay's log ---");
}

static LINES: LazyLock<watch::Sender<Vec<String>>> = LazyLock::new(watch::Sender::default);

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes into [`LINES`]; one event is one write.
#[derive(Clone, Copy)]
struct Lines;

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        LINES.send_modify(|lines| lines.extend(text.lines().map(str::to_owned)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
