//! One client's HTTP/3 connection, from its first packet to its last.
//!
//! ```text
//! accept ─▶ SETTINGS out, before the handshake is over ─▶ heads read side by side ─▶ one task a request ─▶ closed, one line in the log
//! ```
//!
//! Promises:
//!
//! 1. *A silent client is let go*: no authenticated request within the limit, and the connection closes (C-08); so does one whose client may no longer
//!    ask, once nothing runs on it (C-80).
//! 2. *One slow request delays no other* (C-35): heads are read side by side, each request has its task.
//! 3. *A drain loses nothing it took*: GOAWAY names the first stream that was not, and those are rejected for the client to try again (C-79).

mod datagrams;
mod exchange;
mod halves;
mod head;
mod lane;

use std::{cell::OnceCell, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use super::{
    Client, REFUSABLE, Worker,
    desk::Desk,
    gate::{self, Gate},
    link::{self, Link, varint},
    requests::Requests,
    summary::{self, Over, by_relay},
    window::{Share, Window},
};
use crate::{
    certs::client::Shown,
    config::{Bisect, memory},
    diagnosis::Close,
    ended::Reset,
    fault::Fault,
    policy::limits::{ConnectionSlots, Slot},
    proto::{
        codes::h3 as code,
        head::Head,
        settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, MAX_FIELD_SECTION_SIZE, Settings},
    },
    record::{self, Log, What},
    refusal::Refusal,
};
use bytes::Bytes;
use datagrams::{Datagrams, Registration};
use exchange::H3Exchange;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use halves::{RecvHalf, SendHalf};
use head::{MAX_HEAD, Read};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

/// Requests a client may have open at once at first; each permitted one costs 90 bytes, so the number grows as it is used.
pub const STREAMS: u64 = 100;
/// Heads read at once before the client is known, and after.
const HEADS: [usize; 2] = [memory::HEADS_BEFORE as usize, memory::HEADS as usize];
/// The largest stream a client can open: the first GOAWAY takes nothing back (RFC 9114 §5.2).
const GOAWAY_FIRST: u64 = (1 << 62) - 4;
/// How long clients have to take the rest of what was finished, once the grace of a drain is over.
const LAST_PACKETS: Duration = Duration::from_secs(1);

/// What a client must know before it asks: extended CONNECT, HTTP Datagrams, and how large a head may be.
fn settings(worker: &Worker) -> Settings {
    let mut settings = Settings(vec![(MAX_FIELD_SECTION_SIZE, MAX_HEAD as u64), (ENABLE_CONNECT_PROTOCOL, 1), (H3_DATAGRAM, 1)]);
    let Bisect { extended_connect, h3_datagram, .. } = worker.config.bisect;
    for (sent, fault, left_out) in
        [(extended_connect, Fault::NoExtendedConnect, ENABLE_CONNECT_PROTOCOL), (h3_datagram, Fault::NoH3Datagram, H3_DATAGRAM)]
    {
        if !sent || worker.faults.on(fault) {
            settings.0.retain(|(id, _)| *id != left_out);
        }
    }
    settings
}

/// Serves one connection from its first packet to its last. Answers nothing on its own to a client that breaks QUIC or TLS.
pub async fn serve(connecting: quinn::Connecting, slots: ConnectionSlots, record: record::Open, worker: Arc<Worker>) {
    let started = Instant::now();
    record.log().http(3);
    let address = connecting.remote_address();
    let ConnectionSlots { connection: _connection, unauthenticated, .. } = slots;
    let deadline = started + worker.config.timeouts.authenticate;
    // Boxed, both: opening takes more room than the whole rest, and a task is as large as the largest it ever waits for.
    let opening = Box::pin(async {
        tokio::select! {
            opened = open(connecting, &worker, record.log()) => opened,
            () = sleep_until(deadline) => Err(by_relay("no handshake in time")),
            () = worker.cut.cancelled() => Err(by_relay("the relay stopped")),
        }
        .map(|opened| Box::new(Session::new(opened, address, unauthenticated, Arc::clone(&worker))))
    });
    let mut session = match opening.await {
        Ok(session) => session,
        Err((why, close)) => return summary::handshake_failed("h3", record, &why, close),
    };
    let _open = worker.metrics.connection_open();
    let (requests, end, close) = session.run(deadline).await;
    drop(session);
    if record.log().shook_hands() {
        summary::connection_closed("h3", record, requests, &end, close);
    } else {
        summary::handshake_failed("h3", record, &end, close);
    }
}

/// A connection whose client can be answered, though its handshake may not be over.
struct Opened {
    link: Link,
    desk: Desk,
    handshake: quinn::ZeroRttAccepted,
    /// What the relay has said.
    settings: Settings,
}

/// SETTINGS leave in the server's first flight. Never without the wait for handshake data: only with it are the client's limits known, and a
/// stream can be opened.
async fn open(mut connecting: quinn::Connecting, worker: &Arc<Worker>, log: &Arc<Log>) -> Result<Opened, Over> {
    connecting.handshake_data().await.map_err(|error| (error.to_string(), link::close(&error, None)))?;
    let (quinn, handshake) = connecting.into_0rtt().map_err(|_| by_relay("the connection takes no half-RTT data"))?;
    let link = Link::new(quinn, Arc::clone(log));
    let settings = settings(worker);
    match Desk::open(link.clone(), settings.clone(), Arc::clone(worker)).await {
        Ok(desk) => Ok(Opened { link, desk, handshake, settings }),
        Err(_) => Err(link.end().zip(link.closed_how()).unwrap_or_else(|| by_relay("the control stream could not be opened"))),
    }
}

/// Where a connection stands on its way out.
enum Leaving {
    No,
    /// The first GOAWAY is on its way; what was sent before it arrived has had the time to come when this is over.
    Announced(Pin<Box<Sleep>>),
    /// Streams of this number and above are rejected.
    Closed(u64),
}

/// One request's head, being read.
type Reading = Pin<Box<dyn Future<Output = Option<Ready>> + Send>>;

/// What a request leaves behind: its answer or tunnel was finished, and resolves when the client has all of it.
type Delivered = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request whose head was read.
struct Ready {
    read: Result<(Head, Bytes), Refusal>,
    send: SendHalf,
    recv: RecvHalf,
    registration: Registration,
}

struct Session {
    link: Link,
    desk: Desk,
    /// Resolves when the handshake is complete; gone then.
    handshake: Option<quinn::ZeroRttAccepted>,
    address: SocketAddr,
    /// Where its packets came from when somebody last looked.
    now_at: SocketAddr,
    gate: Arc<Gate>,
    /// The certificate the client has shown, once somebody has looked.
    shown: OnceCell<Option<Arc<Shown>>>,
    worker: Arc<Worker>,
    datagrams: Arc<Datagrams>,
    /// Streams the client may have open at once.
    streams: watch::Sender<u64>,
    heads: FuturesUnordered<Reading>,
    window: Arc<Window>,
    requests: Requests<Option<Delivered>>,
    /// Of requests that are over: closing now would cut off what the client does not have yet.
    undelivered: FuturesUnordered<Delivered>,
    /// The datagrams' two tasks, which end with the connection.
    _plumbing: JoinSet<()>,
    leaving: Leaving,
    /// The first stream that was not taken.
    next: u64,
}

impl Session {
    fn new(opened: Opened, address: SocketAddr, unauthenticated: Slot, worker: Arc<Worker>) -> Self {
        let Opened { link, desk, handshake, settings } = opened;
        // A connection without the parameter cannot send datagrams either: quinn has one switch for both.
        let offered = settings.get(H3_DATAGRAM) == Some(1) && !worker.faults.on(Fault::NoDatagramParameter);
        let datagrams = Datagrams::new(link.clone(), desk.control().settings(), offered, Arc::clone(&worker.metrics));
        let streams = watch::Sender::new(STREAMS);
        let mut plumbing = JoinSet::new();
        plumbing.spawn(Arc::clone(&datagrams).pump(streams.subscribe()));
        plumbing.spawn(Arc::clone(&datagrams).drain_back());
        if let Some(late) = worker.faults.settings_late()
            && !worker.faults.on(Fault::SettingsNever)
        {
            let (control, finish) = (desk.control(), worker.faults.on(Fault::FinishControl));
            plumbing.spawn(sleep(late).map(move |()| {
                control.release();
                if finish {
                    control.finish();
                }
            }));
        }
        Self {
            link,
            desk,
            handshake: Some(handshake),
            address,
            now_at: address,
            gate: Arc::new(Gate::new(unauthenticated)),
            shown: OnceCell::new(),
            worker,
            datagrams,
            streams,
            heads: FuturesUnordered::new(),
            window: Arc::default(),
            requests: Requests::new(address),
            undelivered: FuturesUnordered::new(),
            _plumbing: plumbing,
            leaving: Leaving::No,
            next: 0,
        }
    }

    /// Takes requests until the connection is over; gives how many there were, and who ended it and why.
    async fn run(&mut self, deadline: Instant) -> (u64, String, Close) {
        let worker = Arc::clone(&self.worker);
        let (gate, window) = (Arc::clone(&self.gate), Arc::clone(&self.window));
        let mut silence = std::pin::pin!(sleep_until(deadline));
        let mut draining = false;
        // Whether what the client was let in by may not count any more, and whether it does not.
        let (mut doubted, mut lost) = (false, false);
        let mut policy = worker.policy.load_full();
        self.misbehave();
        loop {
            tokio::select! {
                _ = self.desk.drive() => break,
                () = complete(&mut self.handshake) => {
                    self.handshake = None;
                    // quinn resolves it as well when the connection is over before.
                    if self.link.close_reason().is_none() {
                        self.link.log().handshake_done();
                    }
                }
                accepted = self.link.accept_bi(), if self.may_accept() => match accepted {
                    Ok((send, recv)) => self.take(send, recv),
                    Err(_) => break,
                },
                Some(ready) = self.heads.next() => if let Some(ready) = ready { self.serve(ready) },
                delivered = self.requests.one_ended() => self.undelivered.extend(delivered),
                Some(()) = self.undelivered.next() => {}
                () = gate.opened() => {
                    self.link.set_receive_window(varint(self.window.size()));
                    self.grow();
                }
                () = window.changed(), if gate.is_open() => self.link.set_receive_window(varint(self.window.size())),
                () = &mut silence, if !gate.is_open() || lost => {
                    if !gate.is_open() {
                        self.link.close(code::NO_ERROR, "no authenticated request in time");
                    } else if gate.is_lost(&policy) {
                        self.link.close(code::NO_ERROR, gate::LOST);
                    }
                    lost = false;
                }
                () = worker.draining.cancelled(), if !draining => {
                    draining = true;
                    self.announce();
                }
                () = announced(&mut self.leaving) => self.reject_from_now_on(),
                () = gate.expired(), if !lost => doubted = true,
                () = policy.replaced() => {
                    if worker.cut.is_cancelled() {
                        // Each tunnel ends for that reason first, and says so to its client.
                        self.finish_requests().await;
                        self.last_packets().await;
                        self.link.close(code::NO_ERROR, "the relay stopped");
                    }
                    policy = worker.policy.load_full();
                    (doubted, lost) = (true, false);
                }
            }
            if std::mem::take(&mut doubted) && gate.is_lost(&policy) {
                lost = true;
                silence.as_mut().reset(Instant::now() + worker.config.timeouts.authenticate);
            }
            if lost && self.is_idle() && gate.is_lost(&policy) {
                self.last_packets().await;
                self.link.close(code::NO_ERROR, gate::LOST);
                lost = false;
            }
            if draining && matches!(self.leaving, Leaving::Closed(_)) && self.is_idle() {
                self.last_packets().await;
                self.link.close(code::NO_ERROR, "the relay is drained");
            }
        }
        self.heads.clear();
        self.finish_requests().await;
        self.look_for_a_move();
        let (end, close) = self.link.end().zip(self.link.closed_how()).unwrap_or_else(|| by_relay("the connection ended"));
        (self.requests.count, end, close)
    }

    /// quinn tells nobody when a client comes from another address.
    fn look_for_a_move(&mut self) {
        let address = self.link.remote_address();
        if std::mem::replace(&mut self.now_at, address) != address {
            self.link.note(0, What::Moved(Box::new(address)));
        }
    }

    /// The faults of a connection that do not wait for a request.
    fn misbehave(&mut self) {
        let faults = &self.worker.faults;
        // Behind SETTINGS, whenever they go.
        if faults.on(Fault::FinishControl) && faults.settings_late().is_none() && !faults.on(Fault::SettingsNever) {
            self.desk.control().finish();
        }
        if self.worker.faults.on(Fault::Goaway) {
            self.reject_from_now_on();
        }
    }

    /// The certificate the client has shown: there once its handshake is whole, as it is when a request of its has come.
    fn shown(&self) -> Option<Arc<Shown>> {
        let read = || {
            let chain = self.link.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
            Shown::read(&chain).map(Arc::new)
        };
        self.shown.get_or_init(read).clone()
    }

    /// Stream credit holds the client back while too many heads are half read, or too many requests open.
    fn may_accept(&self) -> bool {
        self.heads.len() < HEADS[usize::from(self.gate.is_open())]
            && self.requests.len() < self.worker.config.limits.tunnels_per_connection + REFUSABLE
    }

    /// A new request stream: its head is read beside the others.
    fn take(&mut self, send: quinn::SendStream, recv: quinn::RecvStream) {
        self.look_for_a_move();
        self.link.log().opened(u64::from(recv.id()));
        let mut send = SendHalf::new(send, self.link.clone());
        let mut recv = RecvHalf::new(recv, self.link.clone());
        if let Leaving::Closed(from) = self.leaving
            && recv.quarter_id() * 4 >= from
        {
            send.reset(Reset::Rejected);
            recv.stop(Reset::Rejected);
            return;
        }
        self.next = recv.quarter_id() * 4 + 4;
        let registration = Registration::new(&self.datagrams, recv.quarter_id());
        let (link, limit) = (self.link.clone(), self.worker.config.timeouts.head);
        self.heads.push(Box::pin(async move {
            let read = match head::read(&mut send, &mut recv, &link, limit).await {
                Read::Whole { head, left } => Ok((head, left)),
                Read::Refused(refusal) => Err(refusal),
                Read::Nothing => return None,
            };
            Some(Ready { read, send, recv, registration })
        }));
    }

    /// A request whose head is whole: it gets a task of its own.
    fn serve(&mut self, ready: Ready) {
        let worker = Arc::clone(&self.worker);
        if let Some(code) = worker.faults.close() {
            return self.link.close(code.into(), "the fault `close` is on");
        }
        let full = self.requests.len() >= worker.config.limits.tunnels_per_connection;
        let client = Client { address: self.address, http: "h3", full, log: Arc::clone(self.link.log()), shown: self.shown() };
        let gate = Arc::clone(&self.gate);
        let Ready { read, send, recv, registration } = ready;
        let (head, left, unreadable) = match read {
            Ok((head, left)) => (head, left, None),
            Err(refusal) => (Head::default(), Bytes::new(), Some(refusal)),
        };
        let capsule_stall = worker.config.timeouts.capsule_stall;
        let share = Share::of(&self.window);
        let exchange = H3Exchange { head, send, recv, left, registration, datagrams: Arc::clone(&self.datagrams), share, capsule_stall };
        let delivered: Delivered = Box::pin(exchange.send.delivered());
        self.requests.spawn(async move {
            match unreadable {
                None => super::serve(exchange, client, &worker, |standing| gate.open(standing)).await,
                Some(refusal) => Box::pin(super::refuse(exchange, client, &refusal, &worker)).await,
            }
            Some(delivered)
        });
        self.grow();
    }

    /// Permits more streams as they are used, up to the cap.
    fn grow(&mut self) {
        let allowed = *self.streams.borrow();
        let cap = (self.worker.config.limits.tunnels_per_connection + REFUSABLE) as u64;
        if self.gate.is_open() && allowed < cap && self.requests.len() as u64 * 4 > allowed * 3 {
            let allowed = (allowed + STREAMS).min(cap);
            self.link.set_max_concurrent_bi_streams(quinn::VarInt::from_u64(allowed).unwrap_or(quinn::VarInt::MAX));
            self.streams.send_replace(allowed);
        }
    }

    fn is_idle(&self) -> bool {
        self.heads.is_empty() && self.requests.len() == 0 && self.undelivered.is_empty()
    }

    /// The first GOAWAY says that the relay is going, and takes nothing back.
    fn announce(&mut self) {
        if let Leaving::Closed(_) = self.leaving {
            return; // a fault has said more already
        }
        self.desk.control().goaway(GOAWAY_FIRST);
        // One round trip, in which requests may still be under way to us.
        self.leaving = Leaving::Announced(Box::pin(sleep(self.link.rtt().min(Duration::from_secs(1)))));
    }

    /// The second one names the first stream that was not taken.
    fn reject_from_now_on(&mut self) {
        self.leaving = Leaving::Closed(self.next);
        self.desk.control().goaway(self.next);
    }

    /// Before the connection is closed: quinn sends nothing that still waits then.
    async fn last_packets(&mut self) {
        let delivered = async { while self.undelivered.next().await.is_some() {} };
        timeout(LAST_PACKETS, delivered).await.unwrap_or_default();
        self.undelivered.clear();
        // Of a reset no arrival is told; but its packet leaves now.
        tokio::task::yield_now().await;
    }

    async fn finish_requests(&mut self) {
        let Self { requests, undelivered, .. } = self;
        requests.finish(|delivered| undelivered.extend(delivered)).await;
    }
}

/// Resolves once, when the handshake is complete, or never will be.
async fn complete(handshake: &mut Option<quinn::ZeroRttAccepted>) {
    match handshake {
        // Whether 0-RTT was accepted says nothing: there is none.
        Some(handshake) => drop(handshake.await),
        None => std::future::pending().await,
    }
}

/// Resolves when the time between the two GOAWAYs is over.
async fn announced(leaving: &mut Leaving) {
    match leaving {
        Leaving::Announced(over) => over.await,
        Leaving::No | Leaving::Closed(_) => std::future::pending().await,
    }
}
