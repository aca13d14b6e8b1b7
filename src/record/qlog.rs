//! What QUIC did on every connection, packet by packet: qlog files, where somebody asks for them.
//!
//! A file is called by the time and the number of its connection's record. What quinn tells goes into it, in draft-ietf-quic-qlog's JSON-SEQ: each
//! packet's number and kind, the size of those sent, what was lost, and how round trip and congestion window went. It tells nothing of frames or their content, and
//! there is nothing for HTTP/2.
//!
//! Bounded: a file gets [`LONGEST`] bytes and then nothing more, and the directory keeps the [`FILES`] latest files. No worker waits for the disk.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender},
    },
};

use tracing::warn;

use super::{Log, clerk::Clerk};
use crate::config::memory;

/// Bytes of one file: some 20,000 packets.
const LONGEST: usize = 4 << 20;
/// Files in the directory, those of earlier runs too: as many as there are records of connections that are over.
const FILES: usize = 1024;
/// How files of ours end.
const SUFFIX: &str = ".sqlog";
/// What a connection collects before it is handed over.
const PART: usize = memory::QLOG as usize;
/// Room for the line that reaches over it.
const LINE: usize = memory::QLOG_LINE as usize;

/// The thread that writes. Dropping this waits until all is written that was told before.
#[derive(Debug)]
pub struct Qlog {
    clerk: Clerk<Part>,
    lost: Arc<AtomicBool>,
}

/// A worker's way to its connections' files: never waits.
#[derive(Clone, Debug)]
pub struct Traces {
    /// `None`: there will be no more.
    parts: SyncSender<Option<Part>>,
    lost: Arc<AtomicBool>,
}

/// A piece of a file, whole lines.
#[derive(Debug)]
struct Part {
    name: Arc<str>,
    first: bool,
    bytes: Vec<u8>,
}

/// Where one connection's lines go. It never fails: what reads them could only complain, for every packet.
#[derive(Debug)]
pub struct Trace {
    traces: Traces,
    name: Arc<str>,
    part: Vec<u8>,
    /// Bytes handed over.
    written: usize,
    over: bool,
}

impl Qlog {
    /// Writes into `directory`, which is made where it is not there, for its owner alone.
    pub fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
                files.push(path);
            }
        }
        // Names begin with the time.
        files.sort_unstable();
        let lost = Arc::new(AtomicBool::new(false));
        let shelf = Shelf { directory: directory.into(), files: files.into(), lost: Arc::clone(&lost), told: [false; 2] };
        let clerk = Clerk::start("qlog", move |waiting| shelf.fill(waiting))?;
        Ok(Self { clerk, lost })
    }

    /// For the workers.
    pub fn traces(&self) -> Traces {
        Traces { parts: self.clerk.way(), lost: Arc::clone(&self.lost) }
    }
}

impl Traces {
    /// Of the connection that `log` is the record of.
    pub fn begin(&self, log: &Log) -> Trace {
        Trace { traces: self.clone(), name: name(log).into(), part: Vec::new(), written: 0, over: false }
    }
}

/// `2026-03-01T164304.346123Z-0.17.sqlog`: in the order of time, and with no sign that a system's file names lack.
fn name(log: &Log) -> String {
    format!("{}-{}{SUFFIX}", log.start().to_string().replace(':', ""), log.id())
}

impl Trace {
    fn hand_over(&mut self) {
        let (first, bytes) = (self.written == 0, std::mem::take(&mut self.part));
        if bytes.is_empty() || self.over {
            return;
        }
        self.written += bytes.len();
        self.over = self.written >= LONGEST;
        if self.traces.parts.try_send(Some(Part { name: Arc::clone(&self.name), first, bytes })).is_err() {
            self.traces.lost.store(true, Relaxed);
            // Without its first line a file is none.
            self.over |= first;
        }
    }
}

impl Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.over {
            if self.part.capacity() == 0 {
                // At once: a buffer that grows by doubling comes to twice as much.
                self.part.reserve_exact(PART + LINE);
            }
            self.part.extend_from_slice(bytes);
            if self.part.len() >= PART && bytes.ends_with(b"\n") {
                self.hand_over();
            }
        }
        Ok(bytes.len())
    }

    /// Whole parts alone are worth a system call.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// The directory.
struct Shelf {
    directory: PathBuf,
    /// The oldest first.
    files: VecDeque<PathBuf>,
    lost: Arc<AtomicBool>,
    /// Whether the log knows that the disk takes nothing, and that it is too slow.
    told: [bool; 2],
}

impl Shelf {
    fn fill(mut self, waiting: &Receiver<Option<Part>>) {
        while let Ok(Some(part)) = waiting.recv() {
            if let Err(error) = self.put(&part)
                && !std::mem::replace(&mut self.told[0], true)
            {
                // Once: a full disk must not fill the log too.
                warn!(%error, directory = %self.directory.display(), "qlog files cannot be written; the rest of them is lost without another word");
            }
            if self.lost.load(Relaxed) && !std::mem::replace(&mut self.told[1], true) {
                warn!("the disk is too slow for qlog files: lines are missing from here on, without another word");
            }
        }
    }

    /// No descriptor stays open: there may be as many files as connections.
    fn put(&mut self, part: &Part) -> io::Result<()> {
        let path = self.directory.join(&*part.name);
        let mut options = OpenOptions::new();
        options.append(true);
        if part.first {
            while self.files.len() >= FILES {
                let Some(oldest) = self.files.pop_front() else { break };
                // Somebody else may have taken it away.
                fs::remove_file(oldest).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            }
            options.create_new(true).mode(0o600);
            self.files.push_back(path.clone());
        }
        match options.open(&path) {
            Ok(mut file) => file.write_all(&part.bytes),
            // It was among the oldest, or its beginning could not be written.
            Err(error) if !part.first && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, thread};

    use super::*;
    use crate::record::{Id, clerk::WAITING, utc};

    fn log(number: u64) -> Log {
        Log::new(Id { worker: 3, number }, utc(), "192.0.2.1:5".parse().unwrap(), "authorization".into())
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_unstable();
        files
    }

    #[test]
    fn a_file_is_called_as_its_record_and_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("not/there");
        let qlog = Qlog::open(&directory).unwrap();
        let log = log(17);
        let mut trace = qlog.traces().begin(&log);
        trace.write_all(b"{\"qlog_version\"").unwrap();
        trace.write_all(b":\"0.3\"}\n").unwrap();
        drop(trace);
        drop(qlog);
        let [file] = &files(&directory)[..] else { panic!("one file") };
        let named = file.file_name().unwrap().to_str().unwrap();
        assert!(named.starts_with(&log.start().to_string()[..10]) && named.ends_with("Z-3.17.sqlog"), "{named}");
        assert_eq!(fs::read_to_string(file).unwrap(), "{\"qlog_version\":\"0.3\"}\n");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_ends_at_its_bound_with_a_whole_line_whatever_else_comes() {
        let home = tempfile::tempdir().unwrap();
        let qlog = Qlog::open(home.path()).unwrap();
        let mut trace = qlog.traces().begin(&log(1));
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..2 * LONGEST / line.len() {
            trace.write_all(&line).unwrap();
            // The disk is no part of this.
            while trace.traces.lost.swap(false, Relaxed) {
                thread::yield_now();
            }
        }
        drop(trace);
        drop(qlog);
        let [file] = &files(home.path())[..] else { panic!("one file") };
        let written = fs::read(file).unwrap();
        assert!(written.len() <= LONGEST + PART + line.len() && written.ends_with(b"\n"), "{}", written.len());
    }

    #[test]
    fn a_connection_collects_no_more_than_is_stated() {
        let home = tempfile::tempdir().unwrap();
        let qlog = Qlog::open(home.path()).unwrap();
        let mut trace = qlog.traces().begin(&log(1));
        for length in [1, 99, 400, 1000].repeat(20) {
            trace.write_all(&[&vec![b'x'; length][..], b"\n"].concat()).unwrap();
            assert!([0, PART + LINE].contains(&trace.part.capacity()), "{}", trace.part.capacity());
        }
    }

    #[test]
    fn the_directory_keeps_the_latest_files_those_of_an_earlier_run_too() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..FILES {
            fs::write(home.path().join(format!("2001-01-01T{number:06}Z-0.1.sqlog")), "").unwrap();
        }
        fs::write(home.path().join("0-not-ours.txt"), "").unwrap();
        let qlog = Qlog::open(home.path()).unwrap();
        for number in 0..2 {
            qlog.traces().begin(&log(number)).write_all(b"{}\n").unwrap();
        }
        drop(qlog);
        let files = files(home.path());
        assert_eq!(files.len(), FILES + 1);
        assert!(files[0].ends_with("0-not-ours.txt") && files[1].ends_with("2001-01-01T000002Z-0.1.sqlog"), "{:?}", &files[..2]);
    }

    #[test]
    fn a_disk_that_takes_nothing_stops_nobody() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("gone");
        let qlog = Qlog::open(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
        let mut trace = qlog.traces().begin(&log(1));
        for _ in 0..4 * WAITING * PART / 1000 {
            assert_eq!(trace.write(&[b'\n'; 1000]).unwrap(), 1000);
        }
    }
}
