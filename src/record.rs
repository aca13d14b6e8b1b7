//! What happens on every connection, kept while it is open and for a while after: bounded, cheap, and with nothing in it that is secret.
//!
//! ```text
//! session ──▶ Log (events of one connection) ──▶ ring of the worker ──▶ admin socket, `sessions`
//!              small appends, 4 KiB             └▶ writer's thread ──▶ file, a line of JSON each
//! ```
//!
//! Promises:
//!
//! 1. *Bounded*: a connection costs [`ROOM`] bytes at most and its ClientHello, 4 KiB in all, whatever its client does; the first and the last of what happened stay, and how much was
//!    left out between them is told.
//! 2. *Nothing for a packet*: a record grows when a stream opens, is answered or ends. Its lock is the connection's own, and nobody waits for it but
//!    who looks at this very connection.
//! 3. *No worker waits for a reader*: the file has a bounded queue, a follower too, and what does not fit is counted and lost.
//! 4. *No credential*: of a request's fields only those keep their value that are known to be harmless; of a target as much as `log.privacy` lets
//!    through.
//!
//! A record becomes [`crate::diagnosis::Record`] when somebody asks for it: that is the form that is written, shown and diagnosed.

mod clerk;
mod event;
mod file;
mod fold;
mod head;
mod qlog;
mod ring;

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

pub use event::{Asked, Critical, Ended, Refused, What};
pub use file::{Lost, Queue, Writer};
pub use qlog::{Qlog, Trace, Traces};
pub use ring::{Counts, Note, Open, Records, Session, told};

use crate::{
    diagnosis::{
        Close,
        record::{Negotiation, Path, Utc},
    },
    proto::{
        head::Head,
        hello::{self, Hello},
    },
};
use event::Event;

/// Bytes that the record of one connection takes at most, beside its ClientHello.
pub const ROOM: usize = 4096 - hello::ROOM;
/// Of them, for what happened first: how a connection begins tells most.
const FIRST: usize = 1110;
/// And for what happened last.
const LAST: usize = 780;
/// And for each side's SETTINGS: a dozen pairs; a client of ours has less than eight.
const SETTINGS: usize = 12;

/// The number of no connection: they count from 1.
const BLANK: u64 = 0;

/// What is counted on a connection, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Bytes of UDP or TCP payload from the client, and to it.
    pub bytes: [u64; 2],
    /// What QUIC knows of the path.
    pub path: Option<Path>,
}

/// Tells the figures of a connection that is open.
pub type Meter = Box<dyn Fn() -> Figures + Send>;

/// Tells what a client offered, its ClientHello and transport parameters, once it has come: kept where it was read, written out when asked for.
pub type Offer = Box<dyn Fn() -> Option<Hello> + Send>;

/// The record of one connection while it is written.
pub struct Log {
    id: Id,
    /// When it began, by the system's clock.
    start: Utc,
    began: Instant,
    client: SocketAddr,
    /// The field that carries credentials here: its value is never kept.
    credential: Arc<str>,
    kept: Mutex<Kept>,
}

/// How a connection is called: its worker, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    worker: u8,
    number: u64,
}

#[derive(Default)]
struct Kept {
    http: Option<u8>,
    proven: bool,
    turned_away: Option<Box<TurnedAway>>,
    hello: Option<Offer>,
    handshake: Option<u64>,
    settings_sent: Option<Pairs>,
    settings_received: Option<Pairs>,
    /// Events in the order of time: the first ones, and the last ones behind them.
    first: Vec<Event>,
    last: VecDeque<Event>,
    /// Bytes that they take.
    used: [usize; 2],
    left_out: u64,
    requests: u64,
    /// Most requests of a client look alike: the last two heads.
    heads: [Option<Arc<str>>; 2],
    meter: Option<Meter>,
    figures: Figures,
    close: Option<(u64, Close)>,
}

/// Why a client was not let in.
struct TurnedAway {
    why: Box<str>,
    negotiation: Option<Negotiation>,
}

/// Settings, and when they were.
type Pairs = (u64, Box<[(u64, u64)]>);

impl Log {
    fn new(id: Id, start: Utc, client: SocketAddr, credential: Arc<str>) -> Self {
        Self { id, start, began: Instant::now(), client, credential, kept: Mutex::default() }
    }

    /// Of nobody, for all: nothing that is written into it stays.
    fn blank() -> Self {
        let log = Self::new(Id { worker: 0, number: BLANK }, utc(), SocketAddr::from(([0; 4], 0)), "".into());
        // So that the log of the relay has the same to say of its connections.
        log.lock().handshake = Some(0);
        log
    }

    /// How it is called.
    pub const fn id(&self) -> Id {
        self.id
    }

    /// When it began.
    pub const fn start(&self) -> Utc {
        self.start
    }

    /// Where its packets came from at first.
    pub const fn client(&self) -> SocketAddr {
        self.client
    }

    /// How long it has been open, milliseconds.
    pub fn ms(&self) -> u64 {
        self.now() / 1000
    }

    /// The version of HTTP is agreed on.
    pub fn http(&self, version: u8) {
        self.keep(|kept| kept.http = Some(version));
    }

    /// The client has proven its address.
    pub fn proven(&self) {
        self.keep(|kept| kept.proven = true);
    }

    /// Where the client's offer is found, once it has come.
    pub fn hello(&self, offer: Offer) {
        self.keep(|kept| kept.hello = Some(offer));
    }

    /// What it is known by: its JA4, if its offer has come.
    pub fn ja4(&self) -> Option<String> {
        self.lock().hello.as_ref().and_then(|offer| offer()).map(|hello| hello.ja4)
    }

    /// The handshake is complete.
    pub fn handshake_done(&self) {
        self.keep(|kept| {
            kept.handshake.get_or_insert(self.now());
        });
    }

    /// Whether it is.
    pub fn shook_hands(&self) -> bool {
        self.lock().handshake.is_some()
    }

    /// Our SETTINGS were sent.
    pub fn settings_sent(&self, pairs: &[(u64, u64)]) {
        self.keep(|kept| kept.settings_sent = Some(self.pairs(pairs)));
    }

    /// The client's SETTINGS came.
    pub fn settings_received(&self, pairs: &[(u64, u64)]) {
        self.keep(|kept| {
            let received = self.pairs(pairs);
            // They can only be read with the keys that it gives: over TCP it was complete before, and QUIC's 0-RTT is off.
            kept.handshake.get_or_insert(received.0);
            kept.left_out += u64::from(pairs.len() > SETTINGS);
            kept.settings_received = Some(received);
        });
    }

    /// From now on the figures can be asked for.
    pub fn meter(&self, meter: Meter) {
        self.keep(|kept| kept.meter = Some(meter));
    }

    /// A request stream was opened.
    pub fn opened(&self, stream: u64) {
        self.keep(|kept| {
            let now = self.now();
            kept.requests += 1;
            // As above.
            kept.handshake.get_or_insert(now);
            kept.push(Event { at: now, stream, what: What::Opened });
        });
    }

    /// A request's head is whole.
    pub fn head(&self, stream: u64, head: &Head) {
        self.keep(|kept| {
            let text = head::shown(head, &self.credential);
            let known = kept.heads.iter().flatten().find(|known| ***known == *text).cloned();
            let fresh = known.is_none();
            let text = known.unwrap_or_else(|| text.into());
            if fresh {
                kept.heads.swap(0, 1);
                kept.heads[0] = Some(Arc::clone(&text));
            }
            kept.push(Event { at: self.now(), stream, what: What::Head { text, fresh } });
        });
    }

    /// Something happened.
    pub fn note(&self, stream: u64, what: What) {
        self.keep(|kept| kept.push(Event { at: self.now(), stream, what }));
    }

    /// The client was not let in.
    fn turned_away(&self, why: &str, negotiation: Option<Negotiation>) {
        self.lock().turned_away = Some(Box::new(TurnedAway { why: why.into(), negotiation }));
    }

    /// The connection is over; what is said first stands.
    fn closed(&self, close: Close) {
        self.keep(|kept| {
            let now = self.now();
            if let Some(meter) = kept.meter.take() {
                kept.figures = meter();
            }
            kept.close.get_or_insert((now, close));
            kept.first.shrink_to_fit();
            kept.last.shrink_to_fit();
            kept.heads = [None, None];
        });
    }

    /// What is written into it is written here.
    fn keep(&self, write: impl FnOnce(&mut Kept)) {
        if self.id.number != BLANK {
            write(&mut self.lock());
        }
    }

    fn pairs(&self, pairs: &[(u64, u64)]) -> Pairs {
        (self.now(), pairs.iter().copied().take(SETTINGS).collect())
    }

    /// Microseconds since its beginning.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whole between any two statements.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, event: Event) {
        let size = event.size();
        if self.used[0] + size <= FIRST && self.last.is_empty() {
            self.used[0] += size;
            self.first.push(event);
            return;
        }
        self.used[1] += size;
        self.last.push_back(event);
        while self.used[1] > LAST {
            let Some(oldest) = self.last.pop_front() else { break };
            self.used[1] -= oldest.size();
            self.left_out += 1;
            if let What::Head { text, fresh: true } = oldest.what {
                self.disown(&text);
            }
        }
    }

    /// The event that a head was counted with is gone: it counts with the next one that has it, or is forgotten.
    fn disown(&mut self, head: &Arc<str>) {
        for event in &mut self.last {
            let before = event.size();
            if let What::Head { text, fresh } = &mut event.what
                && Arc::ptr_eq(text, head)
            {
                *fresh = true;
                self.used[1] += event.size() - before;
                return;
            }
        }
        for known in &mut self.heads {
            known.take_if(|known| Arc::ptr_eq(known, head));
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("id", &self.id).field("client", &self.client).finish_non_exhaustive()
    }
}

/// As it is shown, and no other way.
impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (worker, number) = text.split_once('.').ok_or(())?;
        let id = Self { worker: worker.parse().map_err(drop)?, number: number.parse().map_err(drop)? };
        if id.to_string() == text { Ok(id) } else { Err(()) }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.worker, self.number)
    }
}

/// The system's clock: what a log of the client's is compared with. Time within a connection is measured by the monotonic one.
#[expect(clippy::disallowed_methods, reason = "an edge at which time comes in: the calendar of records, and nothing depends on it")]
fn utc() -> Utc {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Utc(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
