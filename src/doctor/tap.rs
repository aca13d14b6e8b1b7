//! A socket that sees what passes in the clear, and can hold our packets back.
//!
//! While it holds, nothing but Initial packets leaves: the relay never gets our Finished. Whatever comes back meanwhile belongs to its first flight,
//! however slow either machine is.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use tokio_util::sync::CancellationToken;

use crate::proto::packet::{Kind, packets};

/// The socket.
#[derive(Debug)]
pub(super) struct Tap {
    socket: Arc<dyn AsyncUdpSocket>,
    state: Mutex<State>,
    answered: CancellationToken,
}

/// What passed.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    /// Sizes of our first datagrams.
    pub(super) first: Vec<usize>,
    /// Anything came back.
    pub(super) answered: bool,
    /// The relay sent a Retry packet.
    pub(super) retry: bool,
    /// It sent Version Negotiation.
    pub(super) versions: bool,
    /// Bytes of its connection ID.
    pub(super) cid: Option<usize>,
    /// Bytes out and back while our packets were held.
    pub(super) held: (u64, u64),
}

#[derive(Default)]
struct State {
    wire: Wire,
    holding: bool,
    queue: Vec<Waiting>,
}

/// A transmit of quinn's that waits.
struct Waiting {
    destination: SocketAddr,
    contents: Vec<u8>,
    segment_size: Option<usize>,
}

impl Tap {
    /// On any port of the address's family; holds from the start.
    pub(super) fn bind(local: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(local)?;
        let runtime = quinn::default_runtime().ok_or(io::ErrorKind::Unsupported)?;
        let state = State { holding: true, ..State::default() };
        Ok(Self { socket: runtime.wrap_udp_socket(socket)?, state: Mutex::new(state), answered: CancellationToken::new() })
    }

    /// Lets go of what was held, and holds no more.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.holding = false;
        for waiting in std::mem::take(&mut state.queue) {
            let transmit = Transmit {
                destination: waiting.destination,
                ecn: None,
                contents: &waiting.contents,
                segment_size: waiting.segment_size,
                src_ip: None,
            };
            // What does not leave is lost, as packets are: quinn sends it again.
            drop(self.socket.try_send(&transmit));
        }
    }

    /// Waits until something came back.
    pub(super) async fn answered(&self) {
        self.answered.cancelled().await;
    }

    /// What passed so far.
    pub(super) fn wire(&self) -> Wire {
        self.state().wire.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Whether the relay had sent all that it may to an address it has not validated (RFC 9000 §8.1), so that more could not come.
    pub(super) fn spent(&self) -> bool {
        let (out, back) = self.held;
        back + 1200 > 3 * out
    }

    fn received(&mut self, datagram: &[u8], holding: bool) {
        self.answered = true;
        if holding {
            self.held.1 += datagram.len() as u64;
        }
        for packet in packets(datagram) {
            match packet.kind {
                Kind::Retry => self.retry = true,
                Kind::VersionNegotiation => self.versions = true,
                Kind::Initial | Kind::Handshake => self.cid = packet.source.or(self.cid),
                _ => {}
            }
        }
    }
}

impl AsyncUdpSocket for Tap {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.state();
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        if state.wire.first.len() < FIRST {
            state.wire.first.push(size);
        }
        let initial = || packets(transmit.contents).iter().all(|packet| packet.kind == Kind::Initial);
        if state.holding && !initial() {
            if state.queue.len() < QUEUE {
                state.queue.push(Waiting {
                    destination: transmit.destination,
                    contents: transmit.contents.to_vec(),
                    segment_size: transmit.segment_size,
                });
            }
            return Ok(());
        }
        if state.holding {
            state.wire.held.0 += transmit.contents.len() as u64;
        }
        drop(state);
        self.socket.try_send(transmit)
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            self.answered.cancel();
            let mut state = self.state();
            let holding = state.holding;
            for (buf, meta) in bufs.iter().zip(&*meta).take(count) {
                for datagram in buf[..meta.len].chunks(meta.stride.max(1)) {
                    state.wire.received(datagram, holding);
                }
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("wire", &self.wire).finish_non_exhaustive()
    }
}

/// Datagrams whose size is noted.
const FIRST: usize = 2;

/// Held at most: a connection that may not send much.
const QUEUE: usize = 64;
