//! One connection to the relay, in the order in which an Apple client goes about it, and all that was seen on it.
//!
//! A visit judges nothing: it breaks no promise of a strict client on the wire, notes what the relay does, and goes on as long as there is a
//! connection. No credential leaves before the certificate was found to deserve it.

mod refusal;
mod tcp;
mod udp;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    chain::Chain,
    plan::Plan,
    tap::{Tap, Wire},
    witness::{Seen, Witness},
};
use crate::{
    probe::{Client, Closed, CriticalEnd, Http, Options, Parameters, ProbeError, Violation},
    proto::{
        settings::{ENABLE_CONNECT_PROTOCOL, Settings},
        template::Template,
    },
};

pub(super) use refusal::Refusal;
pub(super) use tcp::TcpTalk;
pub(super) use udp::UdpTalk;

/// What one connection showed.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) http: Http,
    pub(super) address: SocketAddr,
    /// The handshake: how long it took, or why it failed.
    pub(super) opened: Result<Duration, ProbeError>,
    /// What passed in the clear, over QUIC.
    pub(super) wire: Wire,
    /// Whether a handshake with packets of 1200 bytes succeeded where larger ones got no answer.
    pub(super) smaller: bool,
    /// Certificates, and whether one was asked of us.
    pub(super) seen: Seen,
    pub(super) parameters: Parameters,
    pub(super) settings: Option<Settings>,
    pub(super) arrival: Arrival,
    /// Why no request carried the credential, where there is one.
    pub(super) withheld: bool,
    pub(super) asks: Asks,
    /// Whether the relay still answered from a new address; none where that was not tried.
    pub(super) moved: Option<bool>,
    pub(super) goaways: Vec<u64>,
    /// The first of them came before anything was asked.
    pub(super) unwelcome: bool,
    pub(super) critical: Vec<CriticalEnd>,
    pub(super) violations: Vec<Violation>,
    /// How the relay ended the connection, if it did.
    pub(super) closed: Option<Closed>,
}

/// When the relay's SETTINGS came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Over QUIC: before the relay had our Finished.
    First,
    /// So long after the handshake.
    After(Duration),
    /// Not in all the time they were waited for.
    Never,
}

/// What was asked, and what came of it; none where it was not asked.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// To the target, by classic CONNECT.
    pub(super) tcp: Option<TcpTalk>,
    /// To the target, by the URL's template.
    pub(super) udp: Option<UdpTalk>,
    /// A second tunnel beside it.
    pub(super) second: Option<UdpTalk>,
    /// The same target by the well-known path, where the URL has another.
    pub(super) well_known: Option<Refusal>,
    /// A target that nobody can reach, by classic CONNECT.
    pub(super) nowhere: Option<Refusal>,
    /// CONNECT-UDP without a target to talk to: whether it is there at all.
    pub(super) bare_udp: Option<Refusal>,
    /// The same without the credential.
    pub(super) stranger: Option<Refusal>,
}

impl Visit {
    /// Makes a connection to `address` and tries everything on it.
    pub(super) async fn pay(plan: &Plan, http: Http, address: SocketAddr) -> Self {
        let witness = Witness::new(plan.identity.clone());
        let options = options(plan, http, address, &witness);
        let tap = (http == Http::H3).then(|| Tap::bind(any(address)).map(Arc::new));
        let mut visit = Self {
            http,
            address,
            opened: Err(ProbeError::TimedOut { what: "the handshake", after: plan.limits.handshake }),
            wire: Wire::default(),
            smaller: false,
            seen: Seen::default(),
            parameters: options.parameters.clone(),
            settings: None,
            arrival: Arrival::Never,
            withheld: false,
            asks: Asks::default(),
            moved: None,
            goaways: Vec::new(),
            unwelcome: false,
            critical: Vec::new(),
            violations: Vec::new(),
            closed: None,
        };
        let tap = match tap.transpose() {
            Ok(tap) => tap,
            Err(source) => {
                visit.opened = Err(ProbeError::Bind { address, source });
                return visit;
            }
        };
        let mut opening = options.clone();
        opening.over = tap.clone().map(|tap| tap as Arc<dyn quinn::AsyncUdpSocket>);
        let (opened, smaller) = tokio::join!(Client::open(opening), async {
            match &tap {
                Some(tap) => small(plan, address, tap).await,
                None => false,
            }
        });
        visit.smaller = smaller;
        match opened {
            Ok(client) => {
                visit.opened = Ok(client.handshake());
                visit.seen = witness.seen();
                visit.look_around(plan, &client, tap.as_deref(), options).await;
                visit.seen = witness.seen();
                visit.leave(client).await;
            }
            Err(error) => {
                visit.opened = Err(error);
                visit.seen = witness.seen();
            }
        }
        if let Some(tap) = &tap {
            visit.wire = tap.wire();
        }
        visit
    }

    /// Everything on an open connection.
    async fn look_around(&mut self, plan: &Plan, client: &Client, tap: Option<&Tap>, mut options: Options) {
        self.await_settings(plan, client, tap).await;
        if self.http == Http::H2 && self.settings.is_none() {
            return;
        }
        if let Ok(took) = self.opened {
            // What the relay does to a connection by itself is seen before requests make it do more.
            sleep(took.clamp(AT_LEAST, AT_MOST)).await;
        }
        self.unwelcome = !client.goaways().is_empty();
        let chain = Chain::read(&self.seen.chain, &plan.roots, &plan.url.host, plan.now);
        let deserves = plan.trusting || chain.is_ok_and(|chain| chain.deserves(&plan.public_keys, plan.now));
        self.withheld = !deserves && !plan.fields.is_empty();
        let stranger = options.clone();
        if deserves {
            options.fields.clone_from(&plan.fields);
        }
        let may_udp = self.settings.as_ref().is_some_and(|settings| settings.get(ENABLE_CONNECT_PROTOCOL) == Some(1));
        let asking = Asking { plan, client, options: &options };
        if !self.withheld {
            let udp = plan.udp.as_ref().filter(|_| may_udp);
            let elsewhere = udp.filter(|_| !is_well_known(&options));
            let bare = (may_udp && udp.is_none()).then(nowhere);
            (self.asks.udp, self.asks.second, self.asks.well_known, self.asks.nowhere, self.asks.bare_udp) = tokio::join!(
                maybe(udp, |target| asking.udp(target, udp::MANY)),
                maybe(udp, |target| asking.udp(target, udp::FEW)),
                maybe(elsewhere, |target| asking.well_known(target)),
                async { Some(asking.refusal(&options.tcp_head(&nowhere().text)).await) },
                async {
                    match &bare {
                        Some(target) => Some(asking.refusal(&options.udp_head(&target.host, target.port)).await),
                        None => None,
                    }
                },
            );
            // Not beside them: a burst of a megabyte fills the buffers of this machine's socket, and payloads lost here would be held against the relay.
            self.asks.tcp = maybe(plan.tcp.as_ref(), |target| asking.tcp(target)).await;
        }
        if self.withheld || !plan.fields.is_empty() {
            self.asks.stranger = Some(asking.refusal(&stranger.tcp_head(&nowhere().text)).await);
        }
        if self.http == Http::H3 && client.over().is_none() && client.goaways().is_empty() {
            self.moved = Some(client.rebind().is_ok() && asking.refusal(&stranger.tcp_head(&nowhere().text)).await.is_alive());
        }
    }

    async fn await_settings(&mut self, plan: &Plan, client: &Client, tap: Option<&Tap>) {
        let limits = &plan.limits;
        let handshaken = Instant::now();
        if let Some(tap) = tap {
            let first = timeout(limits.flight, client.settings()).await.is_ok_and(|settings| settings.is_ok());
            tap.release();
            self.arrival = if first { Arrival::First } else { Arrival::Never };
        }
        let released = if tap.is_some() { Instant::now() } else { handshaken };
        if let Ok(Ok(settings)) = timeout(limits.settings, client.settings()).await {
            self.settings = Some(settings);
            if self.arrival == Arrival::Never {
                self.arrival = Arrival::After(match (tap, client.settings_timing()) {
                    (None, Some(timing)) => timing.settings.saturating_sub(timing.handshake),
                    _ => released.elapsed(),
                });
            }
        }
    }

    /// Notes the state of things, and goes.
    async fn leave(&mut self, client: Client) {
        self.goaways = client.goaways();
        self.critical = client.critical_ends();
        self.violations = client.violations();
        self.closed = client.over();
        if let Some(udp) = &mut self.asks.udp
            && self.http == Http::H3
        {
            udp.note_strays(&client.stray_datagrams());
        }
        // So that the relay is told; what it answers no longer matters.
        timeout(GOODBYE, client.shut()).await.ok();
    }
}

/// What every request needs.
#[derive(Clone, Copy)]
struct Asking<'a> {
    plan: &'a Plan,
    client: &'a Client,
    /// Makes heads, with the credential.
    options: &'a Options,
}

impl Asking<'_> {
    async fn well_known(&self, target: &super::Target) -> Refusal {
        let mut options = self.options.clone();
        options.template = None;
        self.refusal(&options.udp_head(&target.host, target.port)).await
    }
}

/// What it gives for what there is.
async fn maybe<'a, T, R>(target: Option<&'a T>, ask: impl AsyncFnOnce(&'a T) -> R) -> Option<R> {
    match target {
        Some(target) => Some(ask(target).await),
        None => None,
    }
}

/// Options for a connection that notes instead of refusing; no credential is in them.
fn options(plan: &Plan, http: Http, address: SocketAddr, witness: &Arc<Witness>) -> Options {
    let mut options = Options::new(address, &plan.url.host);
    options.http = http;
    options.authority = authority(&plan.url.host, plan.url.port);
    options.template.clone_from(&plan.url.template);
    options.verifier = Some(Arc::new(witness.judge()));
    options.identity = Some(witness.clone());
    options.forgiving = true;
    options.qpack_streams = true;
    options.answer = Some(plan.limits.answer);
    options.timeout = plan.limits.handshake;
    options.patience = Some(plan.limits.answer);
    options
}

/// Where nothing has answered for a while: whether it does to a handshake in packets that every network must carry.
async fn small(plan: &Plan, address: SocketAddr, tap: &Tap) -> bool {
    if timeout(plan.limits.handshake / 3, tap.answered()).await.is_ok() {
        return false;
    }
    let witness = Witness::new(None);
    let mut options = options(plan, Http::H3, address, &witness);
    options.initial_mtu = 1200;
    options.mtu_discovery = false;
    options.timeout = plan.limits.handshake * 2 / 3;
    Client::open(options).await.is_ok()
}

/// The default port is left out of `:authority`, as browsers do.
fn authority(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 443 { host } else { format!("{host}:{port}") }
}

fn is_well_known(options: &Options) -> bool {
    let expand = |template: &Template| template.expand("192.0.2.1", 1);
    options.template.as_ref().is_none_or(|template| expand(template) == expand(&Template::well_known()))
}

/// The port that nobody serves, on the relay's own machine: refused at once, by policy or by the system, without DNS.
fn nowhere() -> super::Target {
    super::Target { host: "127.0.0.1".into(), port: 1, text: "127.0.0.1:1".into() }
}

/// The wildcard of the same family.
fn any(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Longest wait for a connection to be closed.
const GOODBYE: Duration = Duration::from_millis(100);

/// Before the first request: about a round trip.
const AT_LEAST: Duration = Duration::from_millis(20);
const AT_MOST: Duration = Duration::from_millis(300);
