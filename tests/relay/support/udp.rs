//! UDP targets.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use socket2::SockRef;
use tokio::{net::UdpSocket, sync::watch, task::JoinSet};

use super::{descriptors, within};

/// A UDP target on a port of its own: it keeps what comes and answers by its script.
pub(crate) struct UdpTarget {
    socket: Arc<UdpSocket>,
    received: watch::Sender<Vec<Received>>,
    _task: JoinSet<()>,
}

/// A packet that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The relay's upstream socket.
    pub(crate) from: SocketAddr,
    /// All of it.
    pub(crate) payload: Vec<u8>,
}

impl UdpTarget {
    /// Sends every packet back, on 127.0.0.1.
    pub(crate) async fn echo() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), |payload| vec![payload.to_vec()]).await
    }

    /// Answers nothing, on 127.0.0.1.
    pub(crate) async fn silent() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), |_| Vec::new()).await
    }

    /// Answers each packet by what `script` makes of it.
    pub(crate) async fn start(ip: IpAddr, script: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind((ip, 0)).await.expect("a free port"));
        descriptors::is_target(socket.local_addr().expect("it is bound"));
        let received = watch::Sender::default();
        let mut task = JoinSet::new();
        task.spawn(serve(socket.clone(), received.clone(), script));
        Self { socket, received, _task: task }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// Waits until at least `count` packets have come, and gives all that have.
    pub(crate) async fn received(&self, count: usize) -> Vec<Received> {
        let mut received = self.received.subscribe();
        let what = format!("{count} packets at {}", self.address());
        within(&what, received.wait_for(|all| all.len() >= count)).await.expect("self holds the sender").clone()
    }

    /// What has come by now.
    pub(crate) fn so_far(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// Sends a packet unasked at once: nothing else of the test runs meanwhile.
    pub(crate) fn send_now(&self, payload: &[u8], to: SocketAddr) {
        SockRef::from(&*self.socket).send_to(payload, &to.into()).expect("loopback takes a packet");
    }

    /// Marks what it sends from now on, by the two bits of ECN.
    pub(crate) fn mark(&self, ecn: u32) {
        SockRef::from(&*self.socket).set_tos_v4(ecn).expect("a socket takes a mark");
    }

    /// Sends a packet unasked.
    pub(crate) async fn send(&self, payload: &[u8], to: SocketAddr) {
        self.socket.send_to(payload, to).await.expect("loopback takes a packet");
    }
}

/// An address of 127.0.0.1 with no socket behind it: a packet there gives ICMP port unreachable.
///
/// Nothing keeps another process from taking the port; the kernel hands out others first.
pub(crate) fn closed_port() -> SocketAddr {
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a free port")
}

async fn serve(socket: Arc<UdpSocket>, received: watch::Sender<Vec<Received>>, mut script: impl FnMut(&[u8]) -> Vec<Vec<u8>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let payload = buffer[..length].to_vec();
                let answers = script(&payload);
                received.send_modify(|all| {
                    if all.len() < KEPT {
                        all.push(Received { from, payload });
                    }
                });
                for answer in answers {
                    // The relay may be gone by now.
                    socket.send_to(&answer, from).await.ok();
                }
            }
            // An ICMP error for something sent earlier.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("a UDP target on loopback broke: {error}"),
        }
    }
}

/// Packets kept; later ones are answered, not kept.
const KEPT: usize = 10_000;
