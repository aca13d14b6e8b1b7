//! From lines to attempts: each connection of each program, what was told of it, and which of them are one attempt to use a relay.
//!
//! A log may be of any size; what is kept is bounded, and says when it was cut.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::{
    framing::{Framing, Line, Moment},
    grammar::{self, Event, Head},
};
use crate::diagnosis::{Sight, errno, milliseconds, record::DAY, sight::spoken};

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Is there a network?
    Path,
    /// The relay's name is looked up.
    Resolve,
    /// QUIC or TCP.
    Transport,
    /// TLS.
    Tls,
    /// HTTP/3 or HTTP/2 on top.
    Http,
    /// Requests and their streams.
    Request,
    /// It is over.
    End,
}

impl Phase {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Resolve => "resolve",
            Self::Transport => "transport",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Request => "request",
            Self::End => "end",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Microseconds on the log's clock.
    pub at: Option<i64>,
    /// Which connection: `C1.1.1`.
    pub cid: String,
    /// In which phase.
    pub phase: Phase,
    /// What.
    pub what: String,
    /// The line's place in the log, for order.
    #[serde(skip)]
    line: u64,
}

/// One connection of one program.
#[derive(Debug, Default)]
pub struct Connection {
    /// The program.
    pub process: String,
    /// The `1` of `C1.1.2`.
    pub number: u32,
    /// What was told of it.
    pub sight: Sight,
    first: Option<i64>,
    last: Option<i64>,
    /// The part that hands on to a relay: `C1.1`.
    proxy: Option<String>,
    /// Parts with their endpoints, in the order they were named.
    parts: Vec<(String, String)>,
    /// Parts that became ready.
    ready: Vec<String>,
    /// The first steps and the last.
    steps: Vec<Step>,
    late_steps: VecDeque<Step>,
    steps_cut: u64,
}

/// One attempt to use a relay.
#[derive(Debug, Serialize)]
pub struct Attempt {
    /// The numbers of its connections: the one that asked first.
    pub connections: Vec<u32>,
    /// The log itself says that a relay is used; otherwise it only may be.
    pub through_relay: bool,
    /// What was told of it.
    pub sight: Sight,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Steps in the middle that were not kept.
    pub steps_cut: u64,
}

/// What became of the lines: each is counted as understood, or not.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Of the log.
    pub lines: u64,
    /// Something was made of them.
    pub understood: u64,
    /// Nothing was made of them.
    pub not_understood: u64,
    /// Those, as they are, cut to some hundred characters.
    pub kept: Vec<String>,
    /// How many of those were not kept.
    pub not_kept: u64,
    /// Lines too long to be read whole.
    pub cut: u64,
    /// Connections forgotten to make room for others.
    pub forgotten: u64,
    /// The framings, with their lines.
    pub framings: BTreeMap<Framing, u64>,
}

/// What is told so far.
#[derive(Debug, Default)]
pub struct Story {
    /// What became of the lines.
    pub tally: Tally,
    /// What the log's clock shows, from its first time.
    pub clock: Option<Moment>,
    connections: VecDeque<Connection>,
    /// Whose the last line was: a line without a frame goes on with it.
    context: Context,
    carry: i64,
    latest: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Context {
    process: String,
    at: Option<i64>,
    cid: Option<String>,
}

impl Story {
    /// Takes an entry: a line out of its frame, with further lines in its message if it was JSON. It stands for so many `lines` of the log, and
    /// reads `text` there.
    pub fn tell(&mut self, line: &Line<'_>, lines: u64, text: &str) {
        self.tally.lines += lines;
        *self.tally.framings.entry(line.framing).or_default() += lines;
        if line.framing != Framing::Bare {
            let at = line.at.map(|moment| self.micros(moment));
            self.context = Context { process: line.process.clone(), at, cid: None };
        }
        let several = line.message.contains('\n');
        let mut understood = false;
        for message in line.message.split('\n') {
            let known = self.message(message.trim_end_matches('\r'));
            if several && !known {
                self.keep(message, 0);
            }
            understood |= known;
        }
        if understood || is_preamble(text) {
            self.tally.understood += lines;
        } else {
            self.tally.not_understood += lines;
            if !several {
                self.keep(text, lines);
            }
        }
    }

    /// Counts lines that belong to the framing itself.
    pub fn punctuation(&mut self, framing: Framing, lines: u64) {
        self.tally.lines += lines;
        self.tally.understood += lines;
        *self.tally.framings.entry(framing).or_default() += lines;
    }

    fn keep(&mut self, text: &str, lines: u64) {
        if self.tally.kept.len() == KEPT {
            self.tally.not_kept += lines.max(1);
            return;
        }
        let cut = text.char_indices().nth(KEPT_CHARS).map_or(text.len(), |(at, _)| at);
        let more = if cut < text.len() { "…" } else { "" };
        self.tally.kept.push(format!("{}{more}", &text[..cut]));
    }

    /// Whether something was made of it.
    fn message(&mut self, message: &str) -> bool {
        // What is made of it is kept, for thousands of lines: no word in it is worth more.
        let message = &message[..message.floor_char_boundary(MESSAGE)];
        let (head, event) = grammar::read(message);
        let line = self.tally.lines;
        let cid = match (&head, &self.context.cid) {
            (Some(head), _) => head.cid.to_owned(),
            (None, Some(cid)) if event.is_some() => cid.clone(),
            _ => return false,
        };
        let head = head.unwrap_or(Head { cid: &cid, ..Head::default() });
        let Some(number) = head.number() else { return false };
        self.context.cid = Some(cid.clone());
        let at = self.context.at;
        let process = self.context.process.clone();
        let connection = self.connection(process, number);
        connection.head(&head, at);
        let Some(event) = event else { return false };
        connection.event(&head, &event, at, line);
        true
    }

    fn connection(&mut self, process: String, number: u32) -> &mut Connection {
        let found = self.connections.iter().rposition(|connection| connection.number == number && connection.process == process);
        let at = found.unwrap_or_else(|| {
            if self.connections.len() == CONNECTIONS {
                // Those that use no relay go first.
                let least = self.connections.iter().position(|connection| !connection.uses_relay()).unwrap_or(0);
                drop(self.connections.remove(least));
                self.tally.forgotten += 1;
            }
            self.connections.push_back(Connection { process: process.clone(), number, ..Connection::default() });
            self.connections.len() - 1
        });
        &mut self.connections[at]
    }

    /// Time that runs on over midnight, where a line has no date.
    fn micros(&mut self, moment: Moment) -> i64 {
        self.clock.get_or_insert(moment);
        let mut micros = moment.micros;
        if !moment.dated {
            micros += self.carry;
            if self.latest.is_some_and(|latest| micros < latest - DAY / 2) {
                self.carry += DAY;
                micros += DAY;
            }
            self.latest = Some(self.latest.unwrap_or(micros).max(micros));
        }
        micros
    }

    /// The attempts, in the order of the log; and how many connections there were in all.
    pub fn attempts(&mut self) -> (Vec<Attempt>, usize) {
        let connections: Vec<_> = self
            .connections
            .iter_mut()
            .map(|connection| {
                connection.settle();
                &*connection
            })
            .collect();
        let relays: Vec<_> = connections.iter().filter(|connection| connection.uses_relay()).collect();
        let attempts = if relays.is_empty() {
            // A log cut too short may lack the lines that say `proxy`.
            let suspects = connections.iter().filter(|connection| connection.sight.went_wrong() && connection.sight.relay.is_some());
            suspects.map(|connection| Attempt::new(&[connection], false)).collect()
        } else {
            relays
                .iter()
                .map(|relay| {
                    let carriers = connections.iter().filter(|other| !other.uses_relay() && relay.may_be_carried_by(other));
                    let carrier = carriers.min_by_key(|other| other.number.abs_diff(relay.number));
                    Attempt::new(&[Some(**relay), carrier.copied()].into_iter().flatten().collect::<Vec<_>>(), true)
                })
                .collect()
        };
        (attempts, connections.len())
    }
}

impl Attempt {
    fn new(connections: &[&Connection], through_relay: bool) -> Self {
        let mut sight = Sight::default();
        sight.process.clone_from(&connections[0].process);
        sight.ready = connections[0].sight.ready;
        sight.other_leg_ready = connections[0].sight.other_leg_ready;
        for connection in connections {
            sight.join(&connection.sight);
        }
        let mut steps: Vec<_> =
            connections.iter().flat_map(|connection| connection.steps.iter().chain(&connection.late_steps)).cloned().collect();
        steps.sort_by_key(|step| step.line);
        let steps_cut = connections.iter().map(|connection| connection.steps_cut).sum();
        Self { connections: connections.iter().map(|connection| connection.number).collect(), through_relay, sight, steps, steps_cut }
    }
}

impl Connection {
    fn uses_relay(&self) -> bool {
        self.proxy.is_some() || self.sight.relay_url.is_some()
    }

    /// `other` goes to the same relay at the same time, for the same program.
    fn may_be_carried_by(&self, other: &Self) -> bool {
        let over = |one: &Self, other: &Self| match (one.first, other.last) {
            (Some(first), Some(last)) => first - MOMENT <= last,
            _ => true,
        };
        self.process == other.process
            && self.sight.relay.is_some()
            && self.sight.relay == other.sight.relay
            && over(self, other)
            && over(other, self)
    }

    fn head(&mut self, head: &Head<'_>, at: Option<i64>) {
        self.first = self.first.or(at);
        self.last = at.or(self.last);
        self.sight.quic_lines |= head.function.starts_with("quic_");
        if let Some(endpoint) = head.endpoint
            && !self.parts.iter().any(|(cid, _)| cid == head.cid)
            && self.parts.len() < PARTS
        {
            self.parts.push((head.cid.into(), endpoint.into()));
        }
        if head.mode == Some("proxy") && self.proxy.is_none() {
            self.proxy = Some(head.cid.into());
        }
        if head.state == Some("ready") && self.ready.len() < PARTS && !self.ready.iter().any(|cid| cid == head.cid) {
            self.ready.push(head.cid.into());
        }
    }

    /// What the parts say together, once all lines are read.
    fn settle(&mut self) {
        let endpoint_of = |wanted: &str| self.parts.iter().find(|(cid, _)| cid == wanted).map(|(_, endpoint)| endpoint.clone());
        let printed =
            self.sight.relay_url.as_deref().map(|url| url.split("://").last().unwrap_or_default().trim_end_matches('/').to_owned());
        let below = |cid: &str, above: &str| cid.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'));
        let proxy = self.proxy.as_deref();
        let leg = match proxy {
            Some(proxy) => self.parts.iter().find(|(cid, _)| below(cid, proxy)),
            None => self.parts.iter().max_by_key(|(cid, _)| cid.len()),
        };
        self.sight.relay = leg.map(|(_, endpoint)| endpoint.clone()).or(printed);
        self.sight.target = proxy.and_then(endpoint_of);
        if let Some(proxy) = proxy {
            self.sight.ready = self.ready.iter().any(|cid| cid == proxy || below(proxy, cid)) && !self.sight.failed;
            self.sight.other_leg_ready = self.ready.iter().any(|cid| cid != proxy && !below(cid, proxy) && !below(proxy, cid));
        }
    }

    fn event(&mut self, head: &Head<'_>, event: &Event, at: Option<i64>, line: u64) {
        if let Some((phase, what)) = self.learn(event, at) {
            let cid = format!("C{}", head.cid.trim_start_matches('C'));
            let step = Step { at, cid, phase, what, line };
            if self.steps.len() < STEPS {
                self.steps.push(step);
                return;
            }
            if self.late_steps.len() == STEPS {
                drop(self.late_steps.pop_front());
                self.steps_cut += 1;
            }
            self.late_steps.push_back(step);
        }
    }

    /// What happened, and in which phase; the facts go into the sight.
    fn learn(&mut self, event: &Event, at: Option<i64>) -> Option<(Phase, String)> {
        let sight = &mut self.sight;
        Some(match event {
            Event::Connected(level, which) if which.starts_with("http") => {
                sight.http.get_or_insert_with(|| which.clone());
                sight.joined = sight.joined.or(at);
                (Phase::Http, format!("{} {}", spoken(which), level.to_lowercase()))
            }
            Event::Connected(level, which) => {
                if level == "Transport" {
                    sight.transport.get_or_insert_with(|| which.clone());
                }
                (Phase::Transport, format!("{} connected", which.to_uppercase()))
            }
            Event::Disconnected => (Phase::End, "disconnected".into()),
            Event::Flow { name, at_ms, error } => self.flow(name, *at_ms, error.as_deref()),
            Event::Cancel => {
                sight.cancel = sight.cancel.or(at);
                (Phase::End, "the client cancels".into())
            }
            Event::Cancelled => {
                sight.ended = sight.ended.or(at);
                (Phase::End, "cancelled".into())
            }
            Event::ProxyFailed { errno: error, relay } => {
                sight.failed = true;
                sight.errno = Some(*error);
                sight.relay_url.clone_from(relay);
                (Phase::End, format!("the proxy failed with {}", errno(*error)))
            }
            Event::Established { ms, rtt_ms } => {
                sight.transport.get_or_insert_with(|| "quic".into());
                sight.tls_ms = sight.tls_ms.or(Some(*ms));
                sight.rtt_ms = sight.rtt_ms.or(*rtt_ms);
                (Phase::Transport, format!("QUIC established in {}", milliseconds(*ms)))
            }
            Event::KeepAliveLost => {
                sight.keep_alive_lost = true;
                (Phase::Transport, "keep-alives went unanswered".into())
            }
            Event::Closed(close) => {
                sight.close.get_or_insert_with(|| close.clone());
                (Phase::End, close.to_string())
            }
            Event::Stream { sent, frame } => {
                sight.reset |= *sent && frame == "RESET_STREAM";
                (Phase::Request, format!("the {} {frame}", if *sent { "client sends" } else { "relay sent" }))
            }
            Event::ReceiveFailed(words) => {
                sight.errno = sight.errno.or_else(|| grammar::errno_of(words));
                (Phase::End, format!("receiving failed: {words}"))
            }
            Event::SocketError(error) => {
                sight.socket_errno.get_or_insert(*error);
                (Phase::Transport, format!("the socket has {}", errno(*error)))
            }
            Event::Certificate(verdict) => {
                sight.certificate = Some(verdict.clone());
                (Phase::Tls, format!("certificate: {verdict}"))
            }
            Event::TlsConnected { alpn, ms, rtt_ms } => {
                sight.tls_ms = sight.tls_ms.or(*ms);
                sight.rtt_ms = sight.rtt_ms.or(*rtt_ms);
                let alpn = alpn.as_ref().map_or(String::new(), |alpn| format!(", ALPN {alpn}"));
                (Phase::Tls, format!("TLS connected{alpn}"))
            }
            Event::Alert { read, words } => {
                sight.alert.get_or_insert_with(|| (*read, words.clone()));
                (Phase::Tls, format!("fatal alert {}: {words}", if *read { "from the relay" } else { "from the client" }))
            }
            Event::ConnectFailed(status) if *status <= -9000 => {
                sight.tls_status.get_or_insert(*status);
                (Phase::Tls, format!("connecting failed with {status}"))
            }
            Event::ConnectFailed(error) => {
                sight.errno = sight.errno.or(Some(*error));
                (Phase::End, format!("connecting failed with {}", errno(*error)))
            }
            Event::Ends { local, .. } => {
                sight.local.get_or_insert_with(|| local.clone());
                return None;
            }
            Event::Summary(summary) => {
                sight.duration_ms = sight.duration_ms.or(summary.duration_ms);
                if sight.transport.is_none() {
                    sight.transport.clone_from(&summary.transport);
                }
                sight.tls_ms = sight.tls_ms.or(summary.tls_ms);
                sight.bytes = sight.bytes.or(summary.bytes);
                sight.packets = sight.packets.or(summary.packets);
                sight.rtt_ms = sight.rtt_ms.or(summary.rtt_ms);
                sight.retransmitted = sight.retransmitted.or(summary.retransmitted);
                sight.no_path |= summary.unsatisfied;
                return None;
            }
        })
    }

    fn flow(&mut self, name: &str, at_ms: Option<f64>, error: Option<&str>) -> (Phase, String) {
        let (kind, what) = name.split_once(':').unwrap_or(("", name));
        let phase = match (kind, what) {
            ("path", _) => Phase::Path,
            ("resolver", _) => Phase::Resolve,
            (_, what) if what.starts_with("failed") => Phase::End,
            (_, what) if what.contains("connect") && what.starts_with("finish") => Phase::Http,
            _ => Phase::Transport,
        };
        self.sight.no_path |= kind == "path" && what.starts_with("unsatisfied");
        let failed = error.filter(|_| phase == Phase::End);
        if let Some(error) = failed {
            self.sight.failed = true;
            self.sight.errno = self.sight.errno.or_else(|| grammar::errno_of(error));
        }
        let after = at_ms.map_or(String::new(), |ms| format!(", {} from its start", milliseconds(ms)));
        let error = error.map_or(String::new(), |error| format!(": {error}"));
        (phase, format!("{}{after}{error}", what.replace('_', " ")))
    }
}

/// What the `log` program says itself.
fn is_preamble(text: &str) -> bool {
    ["Filtering the log data using", "Timestamp ", "Skipping info and debug messages", "=========="]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Connections in mind: a device that is in use opens some ten a minute.
pub const CONNECTIONS: usize = 256;

/// Steps of one connection, first and last: an attempt has about ten, a long tunnel any number of uninteresting ones in between.
pub const STEPS: usize = 24;

/// Lines kept as they are, for a person to look at.
pub const KEPT: usize = 200;

/// And how much of each: the head of such a line fits.
const KEPT_CHARS: usize = 400;

/// Bytes of a message that are looked at: the system itself cuts what programs say at a thousand.
const MESSAGE: usize = 4096;

/// Parts of one connection: one for every address tried.
const PARTS: usize = 32;

/// Lines of one moment may stand in any order.
const MOMENT: i64 = 1_000_000;
