//! The QUIC side: sockets, one endpoint a worker and address, connection IDs that name their worker, and admission.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{hkdf, hmac};
use quinn::{
    Connecting, ConnectionIdGenerator, Endpoint, EndpointConfig, MtuDiscoveryConfig, QlogConfig, ServerConfig, TokioRuntime,
    TransportConfig, ValidationTokenConfig, VarInt,
    congestion::{BbrConfig, ControllerFactory, CubicConfig},
    crypto::rustls::NoInitialCipherSuite,
};
use quinn_proto::ConnectionId;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Pace, Seen,
    grease::greased,
    hello::{QuicTls, Watched},
    socket::ClientSocket,
    spare::Telling,
    strangers::{SPOKEN, Strangers},
};
use crate::{
    certs::Tls,
    config::{Config, Congestion, Retry, memory},
    fault::{Fault, Faults},
    metrics::Metrics,
    policy::limits::{ConnectionSlots, Limits},
    record::{self, Log, Records, Traces},
    sys,
};

/// RFC 9000 §17.2.
const LONGEST_CID: usize = 20;
/// Handshakes of unproven addresses a second and worker, above which a client must prove its address first.
const UNPROVEN: u32 = 500;
/// Bytes on their way to a client of whose path nothing is known yet: 32 full packets, where RFC 9002 §7.2 recommends 10. They leave paced.
const INITIAL_WINDOW: u64 = 32 * 1200;

/// What all workers' endpoints share: keys and configuration.
pub struct Shared {
    server: ServerConfig,
    without_datagrams: Arc<TransportConfig>,
    tls: ArcSwap<QuicTls>,
    grease: bool,
    endpoint: EndpointConfig,
    cid_length: usize,
    retry: Retry,
    faults: Arc<Faults>,
    /// Where every connection's packets are noted; what its transport is made from goes with it, for it needs one of its own.
    qlog: Option<(Traces, Box<dyn Fn() -> TransportConfig + Send + Sync>)>,
}

impl Shared {
    /// `streams` is how many requests a client may have open at first; `derive` gives 64 bytes for a label, the same after a restart with the same
    /// certificate.
    pub fn new(
        config: &Config,
        tls: &Tls,
        streams: u64,
        faults: Arc<Faults>,
        qlog: Option<Traces>,
        derive: impl Fn(&str) -> [u8; 64],
    ) -> Result<Self, NoInitialCipherSuite> {
        let tls = Arc::new(QuicTls::new(tls)?);
        // For what is said before there is a connection: Retry, version negotiation.
        let mut server = ServerConfig::with_crypto(Arc::new(Watched { tls: Arc::clone(&tls), seen: Seen::default() }));
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(if config.bisect.new_token { 2 } else { 0 });
        server.validation_token_config(tokens);
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&derive("address validation token"));
        server.token_key(Arc::new(token_key));
        server.transport_config(Arc::new(transport(config, streams)));
        server.migration(true);
        server.max_incoming(4096).incoming_buffer_size(64 << 10).incoming_buffer_size_total(64 << 20);
        let mut without_datagrams = transport(config, streams);
        without_datagrams.datagram_receive_buffer_size(None);
        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &derive("stateless reset"));
        let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
        endpoint.grease_quic_bit(config.bisect.grease).supported_versions(SPOKEN.to_vec());
        Ok(Self {
            server,
            without_datagrams: Arc::new(without_datagrams),
            tls: ArcSwap::new(tls),
            grease: config.bisect.grease,
            endpoint,
            cid_length: faults.cid().unwrap_or(config.bisect.cid_length).into(),
            retry: config.quic.retry,
            faults,
            qlog: qlog.map(|traces| {
                let config = config.clone();
                (traces, Box::new(move || transport(&config, streams)) as Box<_>)
            }),
        })
    }

    /// From now on new connections get this.
    pub fn swap(&self, tls: &Tls) -> Result<(), NoInitialCipherSuite> {
        self.tls.store(Arc::new(QuicTls::new(tls)?));
        Ok(())
    }

    /// The configuration of one connection, which fills `seen` and is recorded in `log`.
    fn watched(&self, seen: Seen, log: &Log) -> Arc<ServerConfig> {
        let mut server = self.server.clone();
        server.crypto = greased(Arc::new(Watched { tls: self.tls.load_full(), seen }), self.grease);
        let without_datagrams = self.faults.on(Fault::NoDatagramParameter);
        if let Some((traces, transport)) = &self.qlog {
            let mut transport = transport();
            if without_datagrams {
                transport.datagram_receive_buffer_size(None);
            }
            let mut qlog = QlogConfig::default();
            qlog.writer(Box::new(traces.begin(log))).title(Some(format!("connection {} of {}", log.id(), log.client())));
            transport.qlog_stream(qlog.into_stream());
            server.transport_config(Arc::new(transport));
        } else if without_datagrams {
            server.transport_config(Arc::clone(&self.without_datagrams));
        }
        Arc::new(server)
    }

    /// The endpoint of worker number `worker` on one socket; clients of other versions are counted and recorded. Must be called on the worker's runtime.
    pub fn endpoint(&self, worker: u8, socket: UdpSocket, metrics: &Arc<Metrics>, records: &Arc<Records>) -> io::Result<Endpoint> {
        let mut endpoint = self.endpoint.clone();
        let length = self.cid_length;
        endpoint.cid_generator(move || Box::new(WorkerIds { worker, length }));
        let strangers = Strangers::new(Arc::clone(metrics), Arc::clone(records), self.grease);
        let socket = Arc::new(ClientSocket::new(socket, strangers)?);
        Endpoint::new_with_abstract_socket(endpoint, Some(self.server.clone()), socket, Arc::new(TokioRuntime))
    }
}

fn transport(config: &Config, streams: u64) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // A tunnel's idle limit must not be undercut by its connection's (C-70). A TCP tunnel's longer one counts while the client keeps the
    // connection alive: a phone that is gone is not waited for an hour.
    let idle = config.timeouts.udp_idle.max(config.timeouts.idle);
    let mut mtu = MtuDiscoveryConfig::default();
    // A black hole is often a client that moved: look again soon.
    mtu.upper_bound(1452).black_hole_cooldown(Duration::from_secs(10));
    transport
        .max_concurrent_bidi_streams(limit(streams))
        // Control and two for QPACK, and some that a client adds to keep us from counting on it. With the 100 requests quinn's table of streams has
        // 108 entries, and no room left over; 13 more would double it, 3 KiB a connection.
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .stream_receive_window(limit(memory::STREAM_WINDOW))
        .receive_window(limit(memory::WINDOW_BEFORE))
        .send_window(memory::SEND_WINDOW)
        .datagram_receive_buffer_size(Some(memory::DATAGRAMS_IN as usize))
        // More would only queue: quinn sends datagrams in front of everything else.
        .datagram_send_buffer_size(memory::DATAGRAMS_OUT as usize)
        .initial_mtu(config.quic.initial_mtu)
        .mtu_discovery_config(config.bisect.mtu_discovery.then_some(mtu))
        .max_idle_timeout(Some(idle.try_into().unwrap_or(VarInt::MAX.into())))
        .keep_alive_interval((!config.quic.keep_alive.is_zero()).then_some(config.quic.keep_alive))
        .allow_spin(false)
        .congestion_controller_factory(controllers(config.quic.congestion));
    if !config.bisect.datagrams {
        transport.datagram_receive_buffer_size(None);
    }
    transport
}

/// What makes a controller for every connection.
fn controllers(congestion: Congestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    match congestion {
        Congestion::Cubic => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(INITIAL_WINDOW);
            Arc::new(Telling(Arc::new(cubic)))
        }
        Congestion::Bbr => {
            let mut bbr = BbrConfig::default();
            bbr.initial_window(INITIAL_WINDOW);
            Arc::new(Telling(Arc::new(bbr)))
        }
    }
}

/// A limit as quinn wants it.
fn limit(count: u64) -> VarInt {
    VarInt::from_u64(count).unwrap_or(VarInt::MAX)
}

/// A UDP socket for clients, with our buffers.
pub fn bind(address: SocketAddr, share_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // `[::]` listens on IPv4 too, `[::1]` cannot.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if share_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks for buffers of `bytes`; gives the words of a warning when the kernel gave less.
pub fn ask_for_buffers(socket: &UdpSocket, bytes: usize) -> io::Result<Option<String>> {
    let socket = SockRef::from(socket);
    socket.set_recv_buffer_size(bytes)?;
    socket.set_send_buffer_size(bytes)?;
    // Linux counts its own overhead in, and so gives twice what it was asked for.
    let given = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    let given = if cfg!(target_os = "linux") { given / 2 } else { given };
    Ok((given < bytes).then(|| {
        format!("the kernel gave socket buffers of {given} bytes, {bytes} were asked for: `sysctl -w net.core.rmem_max={bytes} net.core.wmem_max={bytes}`")
    }))
}

/// Lets clients in until the relay drains; each goes to `admit`, or is refused. Then refuses all until `gone`.
pub async fn accept(
    endpoint: Endpoint,
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    records: Arc<Records>,
    draining: CancellationToken,
    gone: CancellationToken,
    mut admit: impl FnMut(Connecting, ConnectionSlots, record::Open),
) {
    let mut pace = Pace::new(UNPROVEN, Instant::now());
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = gone.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        let address = incoming.remote_address();
        let source = address.ip();
        if shared.faults.on(Fault::TcpOnly) {
            incoming.ignore();
            continue;
        }
        if draining.is_cancelled() {
            records.turn_away(address, "the relay is drained");
            incoming.refuse();
            continue;
        }
        let proven = incoming.remote_address_validated();
        let must_prove = match shared.retry {
            _ if shared.faults.on(Fault::Retry) => !proven,
            Retry::Never => false,
            Retry::Load => !proven && pace.is_high(Instant::now()),
            Retry::Always => !proven,
        };
        if must_prove && incoming.may_retry() {
            records.turn_away(address, "retry");
            if let Err(error) = incoming.retry() {
                debug!(%source, %error, "an address could not be asked for its proof");
            }
            continue;
        }
        match limits.connection(source) {
            Ok(slots) => {
                let seen = Seen::default();
                let record = records.begin(address);
                record.log().hello(seen.offer());
                if proven {
                    record.log().proven();
                }
                match incoming.accept_with(shared.watched(seen, record.log())) {
                    Ok(connecting) => admit(connecting, slots, record),
                    Err(error) => {
                        debug!(%source, %error, "a connection could not be accepted");
                        record.turn_away(&format!("a bad first packet: {error}"));
                    }
                }
            }
            Err(why) => {
                debug!(%source, why, "a connection was refused");
                records.turn_away(address, &format!("limit reached: {why}"));
                incoming.refuse();
            }
        }
    }
}

/// Connection IDs of one worker: byte 0 is free for a load balancer's use, byte 1 is the worker, the rest is random.
struct WorkerIds {
    worker: u8,
    length: usize,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LONGEST_CID];
        let id = &mut id[..self.length];
        aws_lc_rs::rand::fill(id).expect("the system has randomness: TLS could not run without it");
        id[1] = self.worker;
        ConnectionId::new(id)
    }

    fn cid_len(&self) -> usize {
        self.length
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Sends each packet of a connection to the worker that its connection ID names. `sockets` are the group's, in the order they were bound.
pub fn steer(first: &UdpSocket, workers: usize) -> io::Result<()> {
    let workers = u32::try_from(workers).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    sys::steer_by_connection_id(first, workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c70_a_connection_is_idle_no_sooner_than_its_tunnels() {
        for (tunnel, connection) in [(30, 120), (120, 120), (600, 600)] {
            let mut config = Config::default();
            config.timeouts.udp_idle = Duration::from_secs(tunnel);
            let shown = format!("{:?}", transport(&config, 1));
            let wanted = format!("max_idle_timeout: Some({:?})", limit(connection * 1000));
            assert!(shown.contains(&wanted), "{wanted} not in {shown}");
        }
    }

    #[test]
    fn each_word_makes_its_own_controller_with_our_window() {
        let made = |congestion| controllers(congestion).build(Instant::now().into_std(), 1200);
        // What each of quinn's tells of itself is its mark.
        assert!(made(Congestion::Cubic).metrics().ssthresh.is_some());
        assert!(made(Congestion::Bbr).metrics().pacing_rate.is_some());
        for congestion in [Congestion::Cubic, Congestion::Bbr] {
            assert_eq!(made(congestion).window(), INITIAL_WINDOW);
        }
    }

    #[test]
    fn a_connection_id_names_its_worker() {
        let mut ids = WorkerIds { worker: 3, length: 8 };
        let (a, b) = (ids.generate_cid(), ids.generate_cid());
        assert_eq!((a[1], b[1], a.len()), (3, 3, 8));
        assert_ne!(a, b);
    }
}
