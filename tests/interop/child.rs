//! Processes a test starts: their output is kept for a failing test, and none outlives it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{env, mem, thread};

/// A running server. Dropping it kills and reaps it; if the test failed, prints what it said.
pub(crate) struct Child {
    name: String,
    process: process::Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Child {
    /// Starts `command` and waits for the first line, of stdout or stderr, that holds `sign`.
    ///
    /// Returns that line with the server.
    pub(crate) fn start(command: &mut Command, sign: &str) -> (Self, String) {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, lines) = channel();
        forward(process.stdout.take().unwrap(), sender.clone());
        forward(process.stderr.take().unwrap(), sender);

        let mut child = Self { name, process, lines, said: Vec::new() };
        let line = child.wait_for(sign);
        (child, line)
    }

    /// SIGTERM, and waits for the end, as [`Child::ended`] does.
    pub(crate) fn end(self) -> Vec<String> {
        output_of(tool("sh").args(["-c", &format!("kill -TERM {}", self.process.id())]));
        self.ended()
    }

    /// Waits until it and all that it started are gone; exit 0, or the test fails. Returns every line it said.
    pub(crate) fn ended(mut self) -> Vec<String> {
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => self.said.push(line),
                // Nobody holds the other end of its streams any more.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("{} does not end", self.name),
            }
        }
        let ended = self.process.wait().unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name));
        assert!(ended.success(), "{}: {ended}", self.name);
        mem::take(&mut self.said)
    }

    /// Waits for a line that holds `sign`, and forgets all up to it.
    pub(crate) fn forget_until(&mut self, sign: &str) {
        self.wait_for(sign);
        self.said.clear();
    }

    fn wait_for(&mut self, sign: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SILENCE).unwrap_or_else(|error| {
                panic!("{} does not say `{sign}`: {error}", self.name);
            });
            self.said.push(line.clone());
            if line.contains(sign) {
                return line;
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already, which is what we want.
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("cannot end {}: {error}", self.name);
        }
        if thread::panicking() {
            // Ends: the process held the other end of both streams.
            self.said.extend(self.lines.iter());
            eprintln!("--- {} said:\n{}\n---", self.name, self.said.join("\n"));
        }
    }
}

/// Runs `command` to its end and returns its stdout, trimmed; anything but exit 0 fails the test.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    stdout.trim().to_owned()
}

/// A command by name. Debian keeps servers in `/usr/sbin`, which is not in everybody's path.
pub(crate) fn tool(name: &str) -> Command {
    any_tool(&[name])
}

/// The first of these commands that is installed.
pub(crate) fn any_tool(names: &[&str]) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect();
    let found = names.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file());
    Command::new(found.unwrap_or_else(|| panic!("{} is not installed: run tests/run", names.join(" or "))))
}

/// A script of this folder, in the Python that has aioquic and h2.
pub(crate) fn python(script: &str, arguments: &[&dyn AsRef<OsStr>]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = root.join("target/interop-venv/bin/python");
    assert!(interpreter.is_file(), "{} is missing: run tests/run, which makes it", interpreter.display());
    let mut command = Command::new(interpreter);
    // No bytecode beside the sources.
    command.arg("-B").arg(root.join("tests/interop").join(script)).args(arguments);
    command
}

/// A file of a package in that Python's environment.
pub(crate) fn packaged(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = root.join("target/interop-venv/lib").read_dir().expect("the environment that tests/run makes");
    let mut places = libraries.map(|library| library.expect("it can be read").path().join("site-packages").join(file));
    places.find(|place| place.is_file()).unwrap_or_else(|| panic!("{file} is missing: run tests/run, which installs it"))
}

/// Reads lines until the stream ends. The process owns the other end, so this thread ends with it.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

/// What starts or ends says something more often than this, on however busy a machine.
const SILENCE: Duration = Duration::from_secs(60);
