//! A UDP tunnel in place of a client's socket: a connection to a second relay goes through the first.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use masque_relay::{
    probe::{Client, UdpTunnel},
    proto::datagram::{MAX_HEADER, write_header},
};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::PollSender;

/// A socket that only ever talks to the target of its tunnel.
#[derive(Debug)]
pub(crate) struct Via {
    peer: SocketAddr,
    room: u16,
    out: mpsc::Sender<Bytes>,
    back: Mutex<mpsc::Receiver<Bytes>>,
    /// They carry packets as long as quinn holds the socket.
    _tasks: JoinSet<()>,
}

impl Via {
    /// Packets to `peer` go in DATAGRAM frames of `client`'s `tunnel`.
    pub(crate) fn new(client: &Client, tunnel: UdpTunnel, peer: SocketAddr) -> Arc<Self> {
        let mut header = Vec::with_capacity(MAX_HEADER);
        write_header(tunnel.quarter_id(), &mut header);
        let room = client.quinn().max_datagram_size().expect("both sides take DATAGRAM frames") - header.len();
        let ((out, taken), (came, back)) = (mpsc::channel(QUEUED), mpsc::channel(QUEUED));
        let mut tasks = JoinSet::new();
        tasks.spawn(send_out(client.quinn().clone(), header, taken));
        tasks.spawn(send_back(tunnel, came));
        let room = u16::try_from(room).expect("a packet is smaller than 64 KiB");
        Arc::new(Self { peer, room, out, back: Mutex::new(back), _tasks: tasks })
    }

    /// The largest packet that the tunnel carried when it was opened.
    pub(crate) fn room(&self) -> u16 {
        self.room
    }
}

/// To the first relay, as fast as its connection's congestion control lets it.
async fn send_out(connection: quinn::Connection, header: Vec<u8>, mut taken: mpsc::Receiver<Bytes>) {
    while let Some(packet) = taken.recv().await {
        match connection.send_datagram_wait([&header, &packet[..]].concat().into()).await {
            // One that is too large is lost, as on any path.
            Ok(()) | Err(quinn::SendDatagramError::TooLarge) => {}
            Err(_) => return,
        }
    }
}

/// From the second relay, until the tunnel is over.
async fn send_back(mut tunnel: UdpTunnel, came: mpsc::Sender<Bytes>) {
    while let Ok(packet) = tunnel.recv().await {
        if came.send(packet.payload).await.is_err() {
            return;
        }
    }
}

impl AsyncUdpSocket for Via {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(PollSender::new(self.out.clone())))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        assert_eq!(transmit.destination, self.peer);
        self.out.try_send(Bytes::copy_from_slice(transmit.contents)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ErrorKind::WouldBlock.into(),
            mpsc::error::TrySendError::Closed(_) => ErrorKind::BrokenPipe.into(),
        })
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let packet = ready!(self.back.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx));
        let Some(packet) = packet else { return Poll::Ready(Err(ErrorKind::BrokenPipe.into())) };
        buffers[0][..packet.len()].copy_from_slice(&packet);
        meta[0] = RecvMeta { addr: self.peer, len: packet.len(), stride: packet.len(), ecn: None, dst_ip: None };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// A tunnel never does (RFC 9298 §6.1), so quinn may look for a larger MTU.
    fn may_fragment(&self) -> bool {
        false
    }
}

/// Waits until a packet more can be taken.
#[derive(Debug)]
struct Room(PollSender<Bytes>);

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = ready!(self.0.poll_reserve(cx));
        // For everybody again: `try_send` takes its own.
        self.0.abort_send();
        Poll::Ready(room.map_err(|_| ErrorKind::BrokenPipe.into()))
    }
}

/// Packets that wait, each way.
const QUEUED: usize = 64;
