//! Where a worker keeps its records: those of open connections, the last of those that are over, and the last clients that were not let in.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::{Id, Log, Lost, file::Queue, utc};
use crate::{
    config::Privacy,
    diagnosis::{
        By, Close, Finding, Record,
        record::{Negotiation, Utc, version},
        timeline::in_a_line,
    },
};

/// Records of connections that are over, of all workers together.
const CLOSED: usize = 1024;
/// Clients that were not let in, of each worker. They cost an attacker nothing, so they have a place of their own.
const TURNED_AWAY: usize = 64;
/// Clients of a QUIC version that is not spoken here, of each worker.
const STRANGERS: usize = 32;
/// What a follower may be behind before it loses something.
const BEHIND: usize = 256;

/// The records of one worker. Its lock is taken when a connection begins or ends, and when somebody looks.
#[derive(Debug)]
pub struct Records {
    worker: u8,
    /// How much of a target's name is written down.
    pub privacy: Privacy,
    credential: Arc<str>,
    closed_room: usize,
    shelf: Mutex<Shelf>,
    file: Option<Queue>,
    notes: broadcast::Sender<Note>,
    /// The record of every connection, where none is kept.
    blank: Option<Arc<Log>>,
}

#[derive(Debug, Default)]
struct Shelf {
    next: u64,
    open: BTreeMap<u64, Arc<Log>>,
    closed: VecDeque<Arc<Log>>,
    turned_away: VecDeque<Arc<Log>>,
    /// Clients to which Version Negotiation went.
    strangers: VecDeque<Arc<Log>>,
}

/// Something for followers.
#[derive(Clone, Debug)]
pub enum Note {
    /// A connection began.
    Opened(Arc<Log>),
    /// A connection is over.
    Closed(Arc<Log>),
}

/// How many records there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Of open connections.
    pub open: usize,
    /// Of those that are over.
    pub closed: usize,
    /// Of clients that were not let in.
    pub turned_away: usize,
}

/// A line of a list of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// How it is called.
    pub id: String,
    /// When it began.
    pub start: Utc,
    /// How long it lasted; none while it is open.
    pub duration_ms: Option<f64>,
    /// From where.
    pub client: SocketAddr,
    /// The version of HTTP, if it came so far.
    pub http: Option<u8>,
    /// Requests so far.
    pub requests: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// How it ended.
    pub close: Option<Close>,
    /// Why it was not let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned_away: Option<String>,
    /// What is wrong, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Records {
    /// For worker number `worker` of `workers`; `credential` is the field that carries credentials.
    pub fn new(
        worker: u8,
        workers: usize,
        privacy: Privacy,
        credential: &str,
        file: Option<Queue>,
        notes: broadcast::Sender<Note>,
    ) -> Self {
        let closed_room = CLOSED.div_ceil(workers.max(1));
        Self { worker, privacy, credential: credential.into(), closed_room, shelf: Mutex::default(), file, notes, blank: None }
    }

    /// The same, and nothing is kept: no connection leaves a record, and nobody is told of any.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self { blank: Some(Arc::new(Log::blank())), ..self }
    }

    /// Where all workers tell what begins and ends.
    pub fn notes() -> broadcast::Sender<Note> {
        broadcast::Sender::new(BEHIND)
    }

    /// A connection begins.
    pub fn begin(self: &Arc<Self>, client: SocketAddr) -> Open {
        if let Some(blank) = &self.blank {
            return Open { log: Arc::clone(blank), records: Arc::clone(self), over: false };
        }
        let log = {
            let mut shelf = self.lock();
            let log = self.log(&mut shelf, client);
            shelf.open.insert(log.id.number, Arc::clone(&log));
            log
        };
        self.tell(|| Note::Opened(Arc::clone(&log)));
        Open { log, records: Arc::clone(self), over: false }
    }

    /// A client is not let in.
    pub fn turn_away(&self, client: SocketAddr, why: &str) {
        if self.blank.is_some() {
            return;
        }
        let mut shelf = self.lock();
        let log = self.log(&mut shelf, client);
        log.turned_away(why, None);
        keep(&mut shelf.turned_away, log, TURNED_AWAY);
    }

    /// A client's QUIC version is not spoken here, and it was told those that are.
    pub fn negotiate(&self, client: SocketAddr, negotiation: Negotiation) {
        if self.blank.is_some() {
            return;
        }
        let mut shelf = self.lock();
        let log = self.log(&mut shelf, client);
        log.turned_away("version negotiation", Some(negotiation));
        keep(&mut shelf.strangers, log, STRANGERS);
    }

    /// All that is known: clients not let in, then connections that are over, then open ones, each the oldest first.
    pub fn all(&self) -> Vec<Arc<Log>> {
        let shelf = self.lock();
        shelf.strangers.iter().chain(&shelf.turned_away).chain(&shelf.closed).chain(shelf.open.values()).cloned().collect()
    }

    /// The one called `id`.
    pub fn find(&self, id: Id) -> Option<Arc<Log>> {
        let shelf = self.lock();
        let over = || shelf.closed.iter().chain(&shelf.turned_away).chain(&shelf.strangers).find(|log| log.id == id);
        shelf.open.get(&id.number).filter(|log| log.id == id).or_else(over).cloned()
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let shelf = self.lock();
        Counts { open: shelf.open.len(), closed: shelf.closed.len(), turned_away: shelf.turned_away.len() + shelf.strangers.len() }
    }

    /// The last Version Negotiation with the client of `log` in the minute before it, and when it was. (Later the port may be another client's.)
    fn negotiated(&self, log: &Log) -> Option<(Utc, Id)> {
        let shelf = self.lock();
        let before = shelf
            .strangers
            .iter()
            .rfind(|stranger| stranger.client == log.client && stranger.start <= log.start && log.start.0 - stranger.start.0 <= MINUTE);
        before.map(|stranger| (stranger.start, stranger.id))
    }

    /// Records that the file did not get.
    pub fn lost(&self) -> Lost {
        self.file.as_ref().map(Queue::lost).unwrap_or_default()
    }

    fn log(&self, shelf: &mut Shelf, client: SocketAddr) -> Arc<Log> {
        shelf.next += 1;
        let id = Id { worker: self.worker, number: shelf.next };
        Arc::new(Log::new(id, utc(), client, Arc::clone(&self.credential)))
    }

    fn end(&self, log: &Arc<Log>, close: Close) {
        if self.blank.is_some() {
            return;
        }
        log.closed(close);
        let mut shelf = self.lock();
        shelf.open.remove(&log.id.number);
        keep(&mut shelf.closed, Arc::clone(log), self.closed_room);
        drop(shelf);
        if let Some(file) = &self.file {
            file.push(Arc::clone(log));
        }
        self.tell(|| Note::Closed(Arc::clone(log)));
    }

    fn give_up(&self, log: &Arc<Log>, why: &str) {
        if self.blank.is_some() {
            return;
        }
        log.turned_away(why, None);
        let mut shelf = self.lock();
        shelf.open.remove(&log.id.number);
        keep(&mut shelf.turned_away, Arc::clone(log), TURNED_AWAY);
        drop(shelf);
        self.tell(|| Note::Closed(Arc::clone(log)));
    }

    fn tell(&self, note: impl FnOnce() -> Note) {
        if self.notes.receiver_count() > 0 {
            // The last follower may have gone just now.
            drop(self.notes.send(note()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // Whole between any two statements.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Microseconds.
const MINUTE: i64 = 60_000_000;

/// The record of one of these workers' connections, with what all of them know: Version Negotiation may have been another worker's.
pub fn told(log: &Log, workers: &[Arc<Records>]) -> Record {
    let mut record = log.record();
    if record.negotiation.is_none() {
        record.negotiated =
            workers.iter().filter_map(|worker| worker.negotiated(log)).max_by_key(|(start, _)| *start).map(|(_, id)| id.to_string());
    }
    record
}

fn keep(shelf: &mut VecDeque<Arc<Log>>, log: Arc<Log>, most: usize) {
    if shelf.len() >= most {
        shelf.pop_front();
    }
    shelf.push_back(log);
}

/// A connection's record while it is open. Dropped without an end it says that the relay stopped.
#[derive(Debug)]
pub struct Open {
    log: Arc<Log>,
    records: Arc<Records>,
    over: bool,
}

impl Open {
    /// To write into.
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The connection is over. Gives what is wrong by its record, if anything is: only if somebody `asks`, for it costs more than all the rest.
    pub fn end(mut self, close: Close, asks: bool) -> Option<Finding> {
        self.over = true;
        self.records.end(&self.log, close);
        asks.then(|| self.log.without_offer().trouble()).flatten()
    }

    /// It never was one: its place is among those that cost an attacker nothing.
    pub fn turn_away(mut self, why: &str) {
        self.over = true;
        self.records.give_up(&self.log, why);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.over {
            let close = Close::silent(By::Relay, "the relay stopped");
            self.records.end(&self.log, close);
        }
    }
}

impl Session {
    /// Of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            id: record.id.clone().unwrap_or_default(),
            start: record.start,
            duration_ms: record.duration_ms,
            client: record.client,
            http: record.http,
            requests: record.requests_in_all.unwrap_or(record.requests.len() as u64),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            close: record.close.clone(),
            turned_away: match (&record.turned_away, &record.negotiation) {
                (Some(why), Some(negotiation)) => Some(format!("{why}, it offered {}", version(negotiation.offered))),
                (why, _) => why.clone(),
            },
            trouble: record.trouble().map(|finding| in_a_line(&finding)),
        }
    }
}
