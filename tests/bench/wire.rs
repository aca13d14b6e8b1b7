//! Ways for packets to travel to whoever answers them, and the ones who answer.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
};

use bytes::Bytes;
use masque_relay::{
    probe::{Client, Http, StreamEnd, UdpTunnel},
    sys::{self, Arena, MAX_RUN},
};
use tokio::{io::unix::AsyncFd, task::JoinSet, time::timeout};

use crate::{
    Failure,
    floor::Floor,
    subject::{On, PATIENCE, Subject},
};

/// A connected UDP socket, used in batches.
pub(crate) struct Socket {
    fd: AsyncFd<UdpSocket>,
    arena: Arena,
}

/// How a target sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// One system call a packet, as most servers do: the relay receives them one by one.
    Singly,
    /// Bursts of at most [`BURST`] in one call, which the relay receives joined.
    Bursts,
}

/// Packets that a bursting target sends at once.
pub(crate) const BURST: usize = 16;

/// UDP payload of every packet.
pub(crate) const PAYLOAD: usize = 1200;

impl Socket {
    /// A socket on 127.0.0.1 with room for bursts, connected to whatever [`Self::connect`] says.
    pub(crate) fn bind() -> Result<Self, Failure> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        let buffers = socket2::SockRef::from(&socket);
        buffers.set_recv_buffer_size(4 << 20)?;
        buffers.set_send_buffer_size(4 << 20)?;
        socket.set_nonblocking(true)?;
        sys::prepare_upstream(&socket)?;
        Ok(Self { fd: sys::watch_reading(socket)?, arena: Arena::default() })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.fd.get_ref().local_addr()?)
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> Result<(), Failure> {
        Ok(self.fd.get_ref().connect(to)?)
    }

    /// Waits for the first packet and connects to where it came from; the packet is still to be received.
    pub(crate) async fn introduced(&self) -> Result<(), Failure> {
        loop {
            let mut ready = self.fd.readable().await?;
            match self.fd.get_ref().peek_from(&mut [0]) {
                Ok((_, from)) => return self.connect(from),
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits, and hands all that has come to `each`. Cancel safe.
    pub(crate) async fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        loop {
            let mut ready = self.fd.readable().await?;
            match sys::receive(self.fd.get_ref(), &mut self.arena) {
                Ok(received) => {
                    if !received.full() {
                        ready.clear_ready();
                    }
                    received.iter().for_each(&mut each);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends; what finds no room is lost, and missed by whoever counts.
    pub(crate) fn send(&self, payloads: &[Bytes], sending: Sending) -> Result<(), Failure> {
        let at_once = if sending == Sending::Singly { 1 } else { BURST };
        for payloads in payloads.chunks(at_once) {
            self.send_joined(payloads)?;
        }
        Ok(())
    }

    fn send_joined(&self, payloads: &[Bytes]) -> Result<(), Failure> {
        sys::send(self.fd.get_ref(), payloads).fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Sends everything back, for ever.
    pub(crate) async fn echo(mut self, sending: Sending) -> Result<(), Failure> {
        let mut packets = Vec::new();
        loop {
            self.receive(|payload| packets.push(Bytes::copy_from_slice(payload))).await?;
            self.send(&packets, sending)?;
            packets.clear();
        }
    }

    /// The same with as many at once as the kernel takes: nothing echoes for less.
    pub(crate) async fn echo_at_best(mut self) -> Result<(), Failure> {
        let mut packets = Vec::new();
        loop {
            self.receive(|payload| packets.push(Bytes::copy_from_slice(payload))).await?;
            packets.chunks(MAX_RUN).try_for_each(|run| self.send_joined(run))?;
            packets.clear();
        }
    }
}

/// One way there and back.
pub(crate) enum Wire {
    /// Through the relay, in QUIC datagrams.
    Datagrams(UdpTunnel),
    /// Through the relay, in capsules.
    Capsules(UdpTunnel),
    /// To a floor: datagrams on quinn alone.
    Quinn(quinn::Connection, #[expect(dead_code, reason = "kept open")] quinn::Endpoint),
    /// To a floor, or to a target in this process: nothing but UDP.
    Bare {
        /// Connected to whoever answers.
        socket: Socket,
        /// Collected, to be sent at once.
        leaving: Vec<Bytes>,
        /// Received at once, to be given out.
        arrived: VecDeque<Bytes>,
    },
}

impl Wire {
    /// Nothing but UDP to `address`.
    pub(crate) fn bare(address: SocketAddr) -> Result<Self, Failure> {
        let socket = Socket::bind()?;
        socket.connect(address)?;
        Ok(Self::Bare { socket, leaving: Vec::new(), arrived: VecDeque::new() })
    }

    /// Sends a packet, or keeps it until the next [`Self::recv`].
    pub(crate) async fn send(&mut self, payload: Bytes) -> Result<(), Failure> {
        match self {
            Self::Datagrams(tunnel) => tunnel.send(&payload)?,
            Self::Capsules(tunnel) => tunnel.send_capsule(&payload).await?,
            Self::Quinn(connection, _) => connection.send_datagram(payload)?,
            Self::Bare { leaving, .. } => leaving.push(payload),
        }
        Ok(())
    }

    /// The next packet, or `None` if nothing comes for [`PATIENCE`]. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Datagrams(tunnel) | Self::Capsules(tunnel) => match tunnel.recv().await {
                Ok(packet) => Ok(Some(packet.payload)),
                Err(StreamEnd::TimedOut) => Ok(None),
                Err(end) => Err(end.into()),
            },
            Self::Quinn(connection, _) => Ok(timeout(PATIENCE, connection.read_datagram()).await.ok().transpose()?),
            Self::Bare { socket, leaving, arrived } => {
                leaving.chunks(MAX_RUN).try_for_each(|run| socket.send_joined(run))?;
                leaving.clear();
                if arrived.is_empty() {
                    let wait = timeout(PATIENCE, socket.receive(|payload| arrived.push_back(Bytes::copy_from_slice(payload)))).await;
                    wait.unwrap_or(Ok(()))?;
                }
                Ok(arrived.pop_front())
            }
        }
    }
}

/// A tunnel on `client` to a target of its own that has received a packet and answered it: the relay counts no more.
pub(crate) async fn tunnel(client: &Client) -> Result<(UdpTunnel, Socket), Failure> {
    let mut target = Socket::bind()?;
    let address = target.address()?;
    let mut tunnel = client.connect_udp(&address.ip().to_string(), address.port()).await?;
    let hello = [0; PAYLOAD];
    tunnel.send_either(&hello).await?;
    timeout(PATIENCE, target.introduced()).await.map_err(|_| "the first packet does not reach its target")??;
    target.receive(|_| {}).await?;
    target.send(&[Bytes::from_static(&[0; PAYLOAD])], Sending::Singly)?;
    tunnel.recv().await?;
    Ok((tunnel, target))
}

/// What echoes are sent through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Connections of the load.
    pub(crate) connections: usize,
    /// Tunnels on each.
    pub(crate) tunnels: usize,
    /// How targets answer.
    pub(crate) sending: Sending,
    /// Which HTTP the load speaks.
    pub(crate) http: Http,
    /// Without QUIC datagrams.
    pub(crate) capsules: bool,
}

/// The wires of one run, and what keeps them alive.
pub(crate) struct Wires {
    pub(crate) all: Vec<Wire>,
    _held: (Vec<Client>, JoinSet<Result<(), Failure>>),
}

impl Wires {
    /// Opens everything, so that only packets are left to be measured.
    pub(crate) async fn open(subject: &Subject, shape: Shape) -> Result<Self, Failure> {
        let (mut all, mut clients, mut targets) = (Vec::new(), Vec::new(), JoinSet::new());
        for _ in 0..shape.connections {
            match subject.on {
                On::Floor(Floor::Bare) => all.push(Wire::bare(subject.address())?),
                On::Floor(Floor::Quinn) => {
                    let (endpoint, connection) = subject.quinn().await?;
                    all.push(Wire::Quinn(connection, endpoint));
                }
                On::Relay | On::TwoWorkers | On::Envoy => {
                    let client = subject.client_for_packets(shape.http, !shape.capsules).await?;
                    for _ in 0..shape.tunnels {
                        let (tunnel, target) = tunnel(&client).await?;
                        targets.spawn(target.echo(shape.sending));
                        all.push(if shape.capsules { Wire::Capsules(tunnel) } else { Wire::Datagrams(tunnel) });
                    }
                    clients.push(client);
                }
            }
        }
        Ok(Self { all, _held: (clients, targets) })
    }
}
