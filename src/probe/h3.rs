//! HTTP/3: the connection, and what only this version has.

mod control;
mod datagrams;
mod stream;

use std::{
    future::Future,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use bytes::Bytes;
use quinn::VarInt;
use tokio::{sync::Mutex, task::JoinSet};

use super::{
    Client, Closed, ProbeError, SettingsWhen, Violation,
    client::Link as AnyLink,
    shared::{Shared, within},
};
use crate::proto::{
    codes::h3,
    frame,
    settings::{H3_DATAGRAM, Settings},
    write_varint,
};

pub use control::Control;
pub(super) use datagrams::Flow;
pub use datagrams::STRAYS_KEPT;
pub(super) use stream::{Receiving, Sending};

/// A QUIC connection, with what its tasks and its streams know together.
#[derive(Debug)]
pub(super) struct Quic {
    pub(super) connection: quinn::Connection,
    pub(super) shared: Arc<Shared>,
    routes: std::sync::Mutex<datagrams::Routes>,
}

impl Quic {
    /// The relay broke `rule`: the connection ends with `code`.
    pub(super) fn violated(&self, code: u64, rule: impl Into<String>) -> Violation {
        let violation = self.shared.note_violation(code, rule);
        if !self.shared.options.forgiving {
            self.connection.close(varint(code), violation.rule.as_bytes());
        }
        violation
    }

    /// Whether both sides have announced SETTINGS_H3_DATAGRAM (RFC 9297 §2.1.1) and the relay takes DATAGRAM frames.
    pub(super) fn carries_datagrams(&self) -> bool {
        let state = self.shared.state.borrow();
        state.announced_datagrams
            && state.settings.as_ref().is_some_and(|settings| settings.get(H3_DATAGRAM) == Some(1))
            && self.connection.max_datagram_size().is_some()
    }

    /// Sends one QUIC datagram, whatever it holds.
    pub(super) fn send_datagram(&self, datagram: Bytes) -> Result<(), ProbeError> {
        let size = datagram.len();
        self.connection.send_datagram(datagram).map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => {
                ProbeError::TooLarge { size, most: self.connection.max_datagram_size().unwrap_or_default() }
            }
            quinn::SendDatagramError::UnsupportedByPeer => ProbeError::Unsupported("max_datagram_frame_size"),
            quinn::SendDatagramError::Disabled => ProbeError::Options("DATAGRAM frames: they are switched off here"),
            quinn::SendDatagramError::ConnectionLost(error) => self.shared.over(&error),
        })
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) quic: Arc<Quic>,
    pub(super) endpoint: quinn::Endpoint,
    control: Mutex<quinn::SendStream>,
    early_data: bool,
    /// Reads the relay's unidirectional streams and its datagrams; aborted on drop.
    _tasks: JoinSet<()>,
}

impl Link {
    /// The handshake; [`Self::begin`] must follow.
    pub(super) async fn connect(
        address: SocketAddr,
        tls: Arc<rustls::ClientConfig>,
        shared: &Shared,
    ) -> Result<(quinn::Connection, quinn::Endpoint, bool), ProbeError> {
        let options = &shared.options;
        let config = options.quic(tls)?;
        let local = options.local(address);
        let bind = |source| ProbeError::Bind { address: local, source };
        let mut endpoint_config = quinn::EndpointConfig::default();
        endpoint_config
            .max_udp_payload_size(options.max_udp_payload)
            .map_err(|_| ProbeError::Options("a max_udp_payload_size below 1200"))?;
        let runtime = quinn::default_runtime().expect("this is an async function on tokio");
        let endpoint = match options.over.clone() {
            Some(over) => quinn::Endpoint::new_with_abstract_socket(endpoint_config, None, over, runtime),
            None => quinn::Endpoint::new(endpoint_config, None, socket(local).map_err(bind)?, runtime),
        };
        let endpoint = endpoint.map_err(bind)?;

        let connecting =
            endpoint.connect_with(config, address, &options.server_name).map_err(|source| ProbeError::Start { address, source })?;
        match early(connecting, options.early_data) {
            Ok((connection, _)) => Ok((connection, endpoint, true)),
            Err(connecting) => match within(Some(options.timeout), connecting).await {
                Ok(connected) => Ok((connected.map_err(|source| ProbeError::Connect { address, source })?, endpoint, false)),
                Err(after) => Err(ProbeError::TimedOut { what: "the handshake", after }),
            },
        }
    }

    /// Opens the control stream and, unless withheld, sends SETTINGS.
    pub(super) async fn begin(
        (connection, endpoint, early_data): (quinn::Connection, quinn::Endpoint, bool),
        shared: Arc<Shared>,
    ) -> Result<Self, ProbeError> {
        let quic = Arc::new(Quic { connection, shared, routes: datagrams::Routes::default().into() });
        let mut tasks = JoinSet::new();
        tasks.spawn(control::watch(quic.clone()));
        tasks.spawn(datagrams::sort(quic.clone()));
        let control = open_control(&quic).await?;
        tasks.spawn(control::watch_ours(quic.clone(), control::CONTROL, control.stopped()));
        let link = Self { control: Mutex::new(control), quic, endpoint, early_data, _tasks: tasks };
        let options = &link.quic.shared.options;
        if options.settings_when == SettingsWhen::AtOnce {
            link.send_settings(&options.settings).await?;
        }
        Ok(link)
    }

    pub(super) fn early_data(&self) -> bool {
        self.early_data
    }

    /// The halves of a new request stream.
    pub(super) async fn exchange(&self) -> Result<(Sending, Receiving), ProbeError> {
        let (send, recv) = self.bidi().await?;
        Ok((Sending::new(send, self.quic.clone()), Receiving::new(recv, self.quic.clone())))
    }

    /// A bidirectional stream; waits until the relay permits it.
    async fn bidi(&self) -> Result<(quinn::SendStream, quinn::RecvStream), ProbeError> {
        self.opened("room for a stream", self.quic.connection.open_bi()).await
    }

    fn control(&self) -> Control<'_> {
        Control { stream: &self.control, quic: &self.quic }
    }

    async fn send_settings(&self, settings: &Settings) -> Result<(), ProbeError> {
        // First the note, then the bytes: a datagram may come back before this task runs again.
        if settings.get(H3_DATAGRAM) == Some(1) {
            self.quic.shared.state.send_modify(|state| state.announced_datagrams = true);
        }
        let sent = self.control().write(&frame::encode(frame::SETTINGS, &settings.encode())).await;
        sent.map_err(ProbeError::Unanswered)
    }

    async fn opened<T>(
        &self,
        what: &'static str,
        opening: impl Future<Output = Result<T, quinn::ConnectionError>>,
    ) -> Result<T, ProbeError> {
        match within(Some(self.quic.shared.options.timeout), opening).await {
            Ok(opened) => opened.map_err(|error| self.quic.shared.over(&error)),
            Err(after) => Err(ProbeError::TimedOut { what, after }),
        }
    }
}

/// What only HTTP/3 has. Each of these panics on a client of another version: they are for who asked for this one.
impl Client {
    /// A bidirectional stream of quinn's; waits until the relay permits it.
    pub async fn raw_bidi(&self) -> Result<(quinn::SendStream, quinn::RecvStream), ProbeError> {
        self.h3().bidi().await
    }

    /// A unidirectional stream of quinn's; waits until the relay permits it.
    pub async fn raw_uni(&self) -> Result<quinn::SendStream, ProbeError> {
        let link = self.h3();
        link.opened("room for a unidirectional stream", link.quic.connection.open_uni()).await
    }

    /// Our control stream.
    #[track_caller]
    pub fn control(&self) -> Control<'_> {
        self.h3().control()
    }

    /// Sends a SETTINGS frame on the control stream: the one that was withheld, or one too many.
    pub async fn send_settings(&self, settings: &Settings) -> Result<(), ProbeError> {
        self.h3().send_settings(settings).await
    }

    /// Sends one QUIC datagram with exactly these bytes: quarter stream ID and all that follows.
    #[track_caller]
    pub fn send_raw_datagram(&self, datagram: Bytes) -> Result<(), ProbeError> {
        self.h3().quic.send_datagram(datagram)
    }

    /// Datagrams that belonged to no tunnel held here: quarter stream ID and what followed it. At most [`STRAYS_KEPT`] are kept.
    #[track_caller]
    pub fn stray_datagrams(&self) -> Vec<(u64, Bytes)> {
        datagrams::strays(&self.h3().quic).0
    }

    /// How many such datagrams came in all.
    #[track_caller]
    pub fn stray_datagram_count(&self) -> u64 {
        datagrams::strays(&self.h3().quic).1
    }

    /// Datagrams lost here because a tunnel was not read.
    #[track_caller]
    pub fn overflown_datagrams(&self) -> u64 {
        datagrams::overflown(&self.h3().quic)
    }

    /// The connection itself: statistics, RTT, path.
    #[track_caller]
    pub fn quinn(&self) -> &quinn::Connection {
        &self.h3().quic.connection
    }

    /// Moves to a new socket on a new port: the relay sees the client's address change (RFC 9000 §9).
    #[track_caller]
    pub fn rebind(&self) -> io::Result<()> {
        let endpoint = &self.h3().endpoint;
        let mut local = endpoint.local_addr()?;
        local.set_port(0);
        endpoint.rebind(socket(local)?)
    }

    #[track_caller]
    fn h3(&self) -> &Link {
        match self.link() {
            AnyLink::H3(link) => link,
            _ => panic!("this client speaks {}: only HTTP/3 has this", self.http()),
        }
    }
}

/// A connection that sends 0-RTT data, if that is wanted and a ticket allows it.
fn early(connecting: quinn::Connecting, wanted: bool) -> Result<(quinn::Connection, quinn::ZeroRttAccepted), quinn::Connecting> {
    if wanted { connecting.into_0rtt() } else { Err(connecting) }
}

/// Opens the control stream and writes its type (RFC 9114 §6.2.1); SETTINGS follow when they may.
async fn open_control(quic: &Quic) -> Result<quinn::SendStream, ProbeError> {
    let open = async {
        let mut stream = quic.connection.open_uni().await?;
        let mut kind = Vec::new();
        write_varint(control::CONTROL, &mut kind);
        // Nothing can refuse the first byte of a stream but the end of the connection.
        stream.write_all(&kind).await.map_err(|_| quic.connection.close_reason().unwrap_or(quinn::ConnectionError::LocallyClosed))?;
        Ok(stream)
    };
    match within(Some(quic.shared.options.timeout), open).await {
        Ok(opened) => opened.map_err(|error: quinn::ConnectionError| quic.shared.over(&error)),
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

/// Closes at once, with an application code.
pub(super) fn close(connection: &quinn::Connection, code: u64, reason: &[u8]) {
    connection.close(varint(code), reason);
}

/// Nothing went wrong.
pub(super) const NO_ERROR: u64 = h3::NO_ERROR;

/// A code for the wire; one too large for it goes out as the largest.
fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// Notes the end of the connection for who waits for anything else.
fn note_closed(quic: &Quic, error: &quinn::ConnectionError) {
    quic.shared.note_closed(Closed::from(error));
}

/// Bytes asked for; the kernel gives what it allows.
const SOCKET_BUFFER: usize = 4 << 20;
