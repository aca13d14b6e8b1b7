//! One client's connection, and the path of each of its requests.
//!
//! An [`Exchange`] is one request and its streams until it is over, whatever the HTTP version. What happens to it is one sentence, [`serve`]:
//! what is asked, who asks, whether it may be, where it goes, and then the tunnel.

mod capsules;
mod desk;
mod gate;
mod h1;
mod h2;
pub mod h3;
mod line;
mod link;
mod odd;
mod requests;
mod summary;
pub mod tcp;
mod window;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    certs::{self, client::Shown},
    config::{Config, Protocol},
    ended::{Ended, Reset},
    fault::{Fault, Faults},
    metrics::Metrics,
    policy::{Counts, Permit, Policy, Standing, limits::Limits},
    proto::{head::Head, template::Template},
    record::{Log, Records},
    refusal::{self, Refusal},
    request::Request,
    tunnel::{self, ClientRead, ClientWrite, Lane, tcp::Fetter, udp},
    upstream::Dialer,
};
use line::Line;
use odd::Odd;

/// What the sessions of one worker share.
#[derive(Debug)]
pub struct Worker {
    /// As started.
    pub config: Arc<Config>,
    /// CONNECT-UDP templates served, the well-known one first.
    pub templates: Vec<Template>,
    /// Swapped on reload.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Caps, counted over all workers.
    pub limits: Arc<Limits>,
    /// This worker's way out.
    pub dialer: Dialer,
    /// This worker's counters.
    pub metrics: Arc<Metrics>,
    /// How the relay misbehaves.
    pub faults: Arc<Faults>,
    /// This worker's records.
    pub records: Arc<Records>,
    /// The relay takes no new work.
    pub draining: CancellationToken,
    /// The grace is over.
    pub cut: CancellationToken,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where its packets came from at first.
    pub address: SocketAddr,
    /// HTTP's version, for the log.
    pub http: &'static str,
    /// Its connection has as many requests open as it may.
    pub full: bool,
    /// The record of its connection.
    pub log: Arc<Log>,
    /// The certificate it has shown.
    pub shown: Option<Arc<Shown>>,
}

/// One request and its streams, until it is over.
pub trait Exchange: Send + Sized {
    /// The client's half of a TCP tunnel.
    type Read: ClientRead;
    /// The relay's half of it.
    type Write: ClientWrite;
    /// The client's side of a UDP tunnel.
    type Lane: Lane;

    /// The request's head; asked for once.
    fn take_head(&mut self) -> Head;

    /// The stream's number, for the log.
    fn number(&self) -> u64;

    /// Waits until the client no longer wants an answer. What comes on the stream is kept. Cancel safe.
    fn abandoned(&mut self) -> impl Future<Output = Ended> + Send;

    /// Answers a CONNECT with yes. The third part resolves when the tunnel has to be aborted for what came outside its stream.
    fn accept_tcp(
        self,
        answer: Head,
    ) -> impl Future<Output = Result<(Self::Read, Self::Write, impl Future<Output = Ended> + Send), Ended>> + Send;

    /// Answers a CONNECT-UDP with yes; what the client has sent already goes into `flow`.
    fn accept_udp(self, answer: Head, flow: &Arc<udp::Flow>) -> impl Future<Output = Result<Self::Lane, Ended>> + Send;

    /// Answers with no, politely: the client gets the whole answer before anything is cut.
    fn refuse(self, answer: Head) -> impl Future<Output = ()> + Send;

    /// Answers, if at all, and breaks off: what no relay in its right mind does.
    fn abort(self, answer: Option<Head>, reset: Reset) -> impl Future<Output = ()> + Send;
}

/// Requests beyond the cap on tunnels that are still answered, with a refusal.
const REFUSABLE: usize = 64;

/// How much of a refused request's body is read, so that its client sees the answer and not a reset (C-47).
const DISCARDED: usize = 64 * 1024;
/// How long.
const DISCARDING: Duration = Duration::from_secs(1);

/// How long a client may take to make room for an answer, which is a few hundred bytes.
const ANSWERING: Duration = Duration::from_secs(10);

/// Between an answer and the break that a fault puts behind it: without it the answer would not leave.
const ABORTING: Duration = Duration::from_millis(50);

/// Milliseconds since, for the log.
fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Serves one request from its head to its end. What takes more room than a tunnel, and passes, is boxed: a task is as large as its largest wait.
/// `authenticated` is called once the client is known, before anything is looked up for it.
#[expect(clippy::manual_async_fn, reason = "an async fn holds what it is given twice, for as long as the tunnel lives")]
pub fn serve<E: Exchange>(
    mut exchange: E,
    client: Client,
    worker: &Worker,
    authenticated: impl FnOnce(&Standing) + Send,
) -> impl Future<Output = ()> + Send {
    async move {
        let head = exchange.take_head();
        client.log.head(exchange.number(), &head);
        let mut line = Line::new(client, exchange.number());
        if let Some(fault) = Odd::of(&head, &worker.faults) {
            return Box::pin(fault.answer(exchange, &line, worker)).await;
        }
        worker.config.apple.seen(&head).for_each(|quirk| worker.metrics.quirk(quirk.name()));
        let opened = tokio::select! {
            opened = Box::pin(open(&head, worker, &mut line, authenticated)) => opened,
            ended = exchange.abandoned() => return line.abandoned(&ended, worker),
            () = worker.cut.cancelled() => return line.abandoned(&Ended::Drained, worker),
        };
        let hint = opened.as_ref().err().and_then(|refusal| worker.config.apple.hint(refusal, &head));
        drop(head);
        match opened {
            Ok((permit, Upstream::Tcp(target, address))) => Box::pin(carry_tcp(exchange, permit, target, address, line, worker)).await,
            Ok((permit, Upstream::Udp(flow, address))) => carry_udp(exchange, permit, flow, address, line, worker).await,
            Err(refusal) => {
                line.refused(&refusal, hint, worker);
                Box::pin(odd::refuse(exchange, &refusal, worker)).await;
            }
        }
    }
}

/// Answers a request that has no head to read.
pub async fn refuse<E: Exchange>(exchange: E, client: Client, refusal: &Refusal, worker: &Worker) {
    Line::new(client, exchange.number()).refused(refusal, None, worker);
    exchange.refuse(refusal.head(&worker.config.name)).await;
}

/// A connected socket towards the target.
enum Upstream {
    Tcp(TcpStream, SocketAddr),
    Udp(Arc<udp::Flow>, SocketAddr),
}

/// The path in one breath: what is asked, who asks, whether it may be, where it goes.
async fn open(head: &Head, worker: &Worker, line: &mut Line, authenticated: impl FnOnce(&Standing)) -> Result<(Permit, Upstream), Refusal> {
    let request = Request::parse(head, &worker.templates, worker.config.apple)?;
    let policy = worker.policy.load_full();
    let standing = policy.authenticate(head, line.client.shown.as_ref())?;
    authenticated(&standing);
    line.asked(&request, standing.user(), worker.config.log.privacy);
    let permit = policy.permit(request, standing, &worker.limits)?;
    if line.client.full {
        return Err(Refusal::LimitReached { what: "tunnels of this connection" });
    }
    let upstream = match permit.protocol {
        Protocol::Tcp => worker.dialer.tcp(&permit).await.map(|(target, address)| Upstream::Tcp(target, address))?,
        Protocol::Udp => {
            let (socket, address) = worker.dialer.udp(&permit).await?;
            let flow =
                udp::Flow::new(socket, worker.config.limits.unanswered_packets, Arc::clone(&worker.metrics), Arc::clone(&worker.faults))
                    .map_err(|source| Refusal::Exhausted { source })?;
            Upstream::Udp(Arc::new(flow), address)
        }
    };
    // Names take their time, and so do targets.
    if permit.standing.counts(&worker.policy.load(), certs::now()) == Counts::No {
        return Err(Refusal::Unauthenticated { presented: true });
    }
    Ok((permit, upstream))
}

/// A client that makes no room for its answer gets none, and holds neither its tunnel nor the relay's end.
async fn answered<T>(accepting: impl Future<Output = Result<T, Ended>>, cut: &CancellationToken) -> Result<T, Ended> {
    tokio::select! {
        accepted = timeout(ANSWERING, accepting) => accepted.unwrap_or(Err(Ended::Stalled)),
        () = cut.cancelled() => Err(Ended::Drained),
    }
}

/// Resolves when the relay ends a tunnel that both sides want: it is cut short, or whoever opened the tunnel no longer may. Cancel safe.
async fn must_end(worker: &Worker, standing: &Standing) -> Ended {
    loop {
        let policy = worker.policy.load_full();
        if worker.cut.is_cancelled() {
            return Ended::Drained;
        }
        let left = match standing.counts(&policy, certs::now()) {
            Counts::No => return Ended::Revoked,
            Counts::For(left) => Some(left),
            Counts::Always => None,
        };
        tokio::select! {
            () = policy.replaced() => {}
            () = after(left) => {}
        }
    }
}

/// Resolves after so long; never for `None`. Boxed: most never wait here, and would carry the timer with them.
async fn after(left: Option<Duration>) {
    match left {
        Some(left) => Box::pin(sleep(left)).await,
        None => std::future::pending().await,
    }
}

async fn carry_tcp<E: Exchange>(exchange: E, permit: Permit, target: TcpStream, address: SocketAddr, line: Line, worker: &Worker) {
    let _open = worker.metrics.tunnel_open();
    let answer = refusal::accepted(&worker.config.name, address, false);
    if worker.faults.on(Fault::AbortAfterResponse) {
        return Box::pin(odd::abort(exchange, answer, &line, worker)).await;
    }
    let (read, write, aborted) = match answered(exchange.accept_tcp(answer), &worker.cut).await {
        Ok(halves) => halves,
        Err(ended) => return line.abandoned(&ended, worker),
    };
    let cut = async {
        tokio::select! {
            ended = must_end(worker, &permit.standing) => ended,
            ended = aborted => ended,
        }
    };
    line.accepted(200);
    let (ended, totals) = tunnel::tcp::run(read, write, target, worker.config.timeouts.tcp_idle, Fetter::of(&worker.faults), cut).await;
    drop(permit);
    line.tcp_closed(&ended, totals, worker);
}

#[expect(clippy::manual_async_fn, reason = "an async fn holds what it is given twice, for as long as the tunnel lives")]
fn carry_udp<E: Exchange>(
    exchange: E,
    permit: Permit,
    flow: Arc<udp::Flow>,
    address: SocketAddr,
    line: Line,
    worker: &Worker,
) -> impl Future<Output = ()> + Send {
    async move {
        let _open = worker.metrics.tunnel_open();
        let mut answer = refusal::accepted(&worker.config.name, address, true);
        odd::capsule_protocol(&mut answer, &worker.faults);
        if worker.faults.on(Fault::AbortAfterResponse) {
            return Box::pin(odd::abort(exchange, answer, &line, worker)).await;
        }
        let lane = match answered(exchange.accept_udp(answer, &flow), &worker.cut).await {
            Ok(lane) => lane,
            Err(ended) => return line.abandoned(&ended, worker),
        };
        // HTTP/1.1 changes its protocol for it (RFC 9298 §3.3).
        line.accepted(if line.client.http == "h1" { 101 } else { 200 });
        let cut = must_end(worker, &permit.standing);
        let ended = udp::run(lane, Arc::clone(&flow), worker.config.timeouts.udp_idle, cut).await;
        drop(permit);
        line.udp_closed(&ended, flow.totals(), worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_makes_no_room_for_its_answer_is_given_up() {
        let (started, cut) = (Instant::now(), CancellationToken::new());
        let never = || std::future::pending::<Result<(), Ended>>();
        assert!(matches!(answered(never(), &cut).await, Err(Ended::Stalled)));
        assert_eq!(started.elapsed(), ANSWERING);
        cut.cancel();
        assert!(matches!(answered(never(), &cut).await, Err(Ended::Drained)));
    }
}
