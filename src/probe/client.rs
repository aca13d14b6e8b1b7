//! One connection to a relay.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Closed, Control, Options, ProbeError, RawExchange, SettingsWhen, TcpTunnel, UdpTunnel, Violation, control, datagrams,
    shared::{Shared, State, varint, within},
};
use crate::proto::{
    codes::h3,
    frame,
    head::Head,
    settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, Settings},
    write_varint,
};

/// A connection to a relay. It lives as long as this, whatever tunnels are held.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    control: Mutex<quinn::SendStream>,
    started: Instant,
    handshake: Duration,
    early_data: bool,
    /// Reads the relay's unidirectional streams and its datagrams; aborted on drop.
    _tasks: JoinSet<()>,
}

/// When things came, counted from the first packet of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsTiming {
    /// The handshake was complete.
    pub handshake: Duration,
    /// The relay's SETTINGS were there.
    pub settings: Duration,
}

impl Client {
    /// Connects to the first of the addresses that answers, opens the control stream and, unless withheld, sends SETTINGS.
    ///
    /// Does not wait for the relay's SETTINGS: [`Self::settings`] does. With 0-RTT data it does not wait for the handshake either; a relay that
    /// rejects the data makes all its streams end.
    pub async fn open(mut options: Options) -> Result<Self, ProbeError> {
        let config = options.quinn()?;
        let mut last = ProbeError::Options("an empty list of addresses");
        for address in &options.addresses {
            match Self::open_at(*address, &config, &options).await {
                Ok(client) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What it was told.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// How long the handshake took, from its first packet until it was complete on our side.
    pub fn handshake(&self) -> Duration {
        self.handshake
    }

    /// Options for another connection to the same relay that resumes this one's TLS session.
    pub fn again(&self) -> Options {
        self.options().clone()
    }

    /// Whether a ticket let us send 0-RTT data, accepted or not.
    pub fn early_data(&self) -> bool {
        self.early_data
    }

    /// The relay's SETTINGS; waits for them.
    pub async fn settings(&self) -> Result<Settings, ProbeError> {
        self.shared.wait_for("SETTINGS", Some(self.options().timeout), |state| state.settings.clone()).await
    }

    /// When the relay's SETTINGS came; `None` before.
    pub fn settings_timing(&self) -> Option<SettingsTiming> {
        let at = self.shared.state.borrow().settings_at?;
        Some(SettingsTiming { handshake: self.handshake, settings: at - self.started })
    }

    /// The identifiers of the GOAWAY frames so far (RFC 9114 §5.2).
    pub fn goaways(&self) -> Vec<u64> {
        self.shared.state.borrow().goaways.clone()
    }

    /// Waits for the `nth` GOAWAY, counted from 1, and gives its identifier.
    pub async fn goaway(&self, nth: usize) -> Result<u64, ProbeError> {
        let at = nth.saturating_sub(1);
        self.shared.wait_for("GOAWAY", self.options().patience, |state| state.goaways.get(at).copied()).await
    }

    /// Waits until the connection is over, and says how.
    pub async fn closed(&self) -> Result<Closed, ProbeError> {
        match within(self.options().patience, self.shared.connection.closed()).await {
            Ok(error) => Ok(Closed::from(&error)),
            Err(after) => Err(ProbeError::TimedOut { what: "the connection's end", after }),
        }
    }

    /// The first rule the relay broke.
    pub fn violation(&self) -> Option<Violation> {
        self.shared.state.borrow().violation.clone()
    }

    /// Opens a tunnel to `authority`, `host:port`, by classic CONNECT.
    pub async fn connect_tcp(&self, authority: &str) -> Result<TcpTunnel, ProbeError> {
        self.request(&self.options().tcp_head(authority)).await?.tcp().await
    }

    /// Opens a tunnel to `host` and `port` by CONNECT-UDP, once the relay's SETTINGS allow it (RFC 9220 §3).
    pub async fn connect_udp(&self, host: &str, port: u16) -> Result<UdpTunnel, ProbeError> {
        if self.settings().await?.get(ENABLE_CONNECT_PROTOCOL) != Some(1) {
            return Err(ProbeError::Unsupported("SETTINGS_ENABLE_CONNECT_PROTOCOL"));
        }
        self.request(&self.options().udp_head(host, port)).await?.udp().await
    }

    /// Sends `head` verbatim on a new stream and gives the exchange, without waiting for an answer nor for SETTINGS.
    pub async fn request(&self, head: &Head) -> Result<RawExchange, ProbeError> {
        let mut exchange = self.exchange().await?;
        exchange.send_head(head).await.map_err(ProbeError::Unanswered)?;
        Ok(exchange)
    }

    /// A new request stream on which nothing was sent yet.
    pub async fn exchange(&self) -> Result<RawExchange, ProbeError> {
        let (send, recv) = self.raw_bidi().await?;
        Ok(RawExchange::new(self.shared.clone(), send, recv))
    }

    /// A bidirectional stream of quinn's; waits until the relay permits it.
    pub async fn raw_bidi(&self) -> Result<(quinn::SendStream, quinn::RecvStream), ProbeError> {
        self.opened("room for a stream", self.shared.connection.open_bi()).await
    }

    /// A unidirectional stream of quinn's; waits until the relay permits it.
    pub async fn raw_uni(&self) -> Result<quinn::SendStream, ProbeError> {
        self.opened("room for a unidirectional stream", self.shared.connection.open_uni()).await
    }

    /// Our control stream.
    pub fn control(&self) -> Control<'_> {
        Control { stream: &self.control, shared: &self.shared }
    }

    /// Sends a SETTINGS frame on the control stream: the one that was withheld, or one too many.
    pub async fn send_settings(&self, settings: &Settings) -> Result<(), ProbeError> {
        // First the note, then the bytes: a datagram may come back before this task runs again.
        if settings.get(H3_DATAGRAM) == Some(1) {
            self.shared.state.send_modify(|state| state.announced_datagrams = true);
        }
        let sent = self.control().write(&frame::encode(frame::SETTINGS, &settings.encode())).await;
        sent.map_err(ProbeError::Unanswered)
    }

    /// Sends one QUIC datagram with exactly these bytes: quarter stream ID and all that follows.
    pub fn send_raw_datagram(&self, datagram: Bytes) -> Result<(), ProbeError> {
        self.shared.send_datagram(datagram)
    }

    /// Datagrams that belonged to no tunnel held here: quarter stream ID and what followed it. At most [`STRAYS_KEPT`](super::STRAYS_KEPT) are
    /// kept.
    pub fn stray_datagrams(&self) -> Vec<(u64, Bytes)> {
        datagrams::strays(&self.shared).0
    }

    /// How many such datagrams came in all.
    pub fn stray_datagram_count(&self) -> u64 {
        datagrams::strays(&self.shared).1
    }

    /// Datagrams lost here because a tunnel was not read.
    pub fn overflown_datagrams(&self) -> u64 {
        datagrams::overflown(&self.shared)
    }

    /// The connection itself: statistics, RTT, path.
    pub fn quinn(&self) -> &quinn::Connection {
        &self.shared.connection
    }

    /// The local address now.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Moves to a new socket on a new port: the relay sees the client's address change (RFC 9000 §9).
    pub fn rebind(&self) -> io::Result<()> {
        let mut local = self.endpoint.local_addr()?;
        local.set_port(0);
        self.endpoint.rebind(socket(local)?)
    }

    /// Closes the connection at once, with an application code.
    pub fn close(&self, code: u64, reason: &[u8]) {
        self.shared.connection.close(varint(code), reason);
    }

    /// Closes the connection with H3_NO_ERROR and waits until the relay has been told and the draining time is over.
    pub async fn shut(self) {
        self.close(h3::NO_ERROR, b"");
        self.endpoint.wait_idle().await;
    }

    async fn open_at(address: SocketAddr, config: &quinn::ClientConfig, options: &Options) -> Result<Self, ProbeError> {
        let local = options.bind.unwrap_or(match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        });
        let bind = |source| ProbeError::Bind { address: local, source };
        let mut endpoint_config = quinn::EndpointConfig::default();
        endpoint_config
            .max_udp_payload_size(options.max_udp_payload)
            .map_err(|_| ProbeError::Options("a max_udp_payload_size below 1200"))?;
        let runtime = quinn::default_runtime().expect("this is an async function on tokio");
        let endpoint = quinn::Endpoint::new(endpoint_config, None, socket(local).map_err(bind)?, runtime).map_err(bind)?;

        let started = Instant::now();
        let connecting =
            endpoint.connect_with(config.clone(), address, &options.server_name).map_err(|source| ProbeError::Start { address, source })?;
        let (connection, early_data) = match early(connecting, options.early_data) {
            Ok((connection, _)) => (connection, true),
            Err(connecting) => match within(Some(options.timeout), connecting).await {
                Ok(connected) => (connected.map_err(|source| ProbeError::Connect { address, source })?, false),
                Err(after) => return Err(ProbeError::TimedOut { what: "the handshake", after }),
            },
        };
        let handshake = started.elapsed();

        let shared = Arc::new(Shared {
            connection,
            options: options.clone(),
            state: watch::Sender::new(State::default()),
            routes: datagrams::Routes::default().into(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(control::watch(shared.clone()));
        tasks.spawn(datagrams::sort(shared.clone()));
        let client =
            Self { control: Mutex::new(open_control(&shared).await?), shared, endpoint, started, handshake, early_data, _tasks: tasks };
        if options.settings_when == SettingsWhen::AtOnce {
            client.send_settings(&options.settings).await?;
        }
        Ok(client)
    }

    async fn opened<T>(
        &self,
        what: &'static str,
        opening: impl Future<Output = Result<T, quinn::ConnectionError>>,
    ) -> Result<T, ProbeError> {
        match within(Some(self.options().timeout), opening).await {
            Ok(opened) => opened.map_err(|error| self.shared.over(&error)),
            Err(after) => Err(ProbeError::TimedOut { what, after }),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close(h3::NO_ERROR, b"");
    }
}

/// A connection that sends 0-RTT data, if that is wanted and a ticket allows it.
fn early(connecting: quinn::Connecting, wanted: bool) -> Result<(quinn::Connection, quinn::ZeroRttAccepted), quinn::Connecting> {
    if wanted { connecting.into_0rtt() } else { Err(connecting) }
}

/// Opens the control stream and writes its type (RFC 9114 §6.2.1); SETTINGS follow when they may.
async fn open_control(shared: &Shared) -> Result<quinn::SendStream, ProbeError> {
    let open = async {
        let mut stream = shared.connection.open_uni().await?;
        let mut kind = Vec::new();
        write_varint(control::CONTROL, &mut kind);
        // Nothing can refuse the first byte of a stream but the end of the connection.
        stream.write_all(&kind).await.map_err(|_| shared.connection.close_reason().unwrap_or(quinn::ConnectionError::LocallyClosed))?;
        Ok(stream)
    };
    match within(Some(shared.options.timeout), open).await {
        Ok(opened) => opened.map_err(|error| shared.over(&error)),
        Err(after) => Err(ProbeError::TimedOut { what: "room for the control stream", after }),
    }
}

/// A socket with buffers that a burst fits in.
fn socket(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    let buffers = socket2::SockRef::from(&socket);
    buffers.set_recv_buffer_size(SOCKET_BUFFER)?;
    buffers.set_send_buffer_size(SOCKET_BUFFER)?;
    Ok(socket)
}

/// Bytes asked for; the kernel gives what it allows.
const SOCKET_BUFFER: usize = 4 << 20;
