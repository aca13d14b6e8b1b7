//! TCP targets.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{descriptors, within};

/// A TCP target that sends every byte back and finishes when the client has.
pub(crate) struct TcpEcho {
    address: SocketAddr,
    accepted: watch::Sender<usize>,
    _task: JoinSet<()>,
}

impl TcpEcho {
    /// On 127.0.0.1.
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// On `ip`.
    pub(crate) async fn start_at(ip: IpAddr) -> Self {
        Self::start_on(SocketAddr::new(ip, 0)).await.expect("a free port")
    }

    /// On the port of another one that `first` starts, at `ip`. A port that is free there may be taken here: then another one is tried.
    pub(crate) async fn start_beside<T>(ip: IpAddr, first: impl AsyncFn() -> T, port: impl Fn(&T) -> u16) -> (T, Self) {
        for _ in 0..16 {
            let first = first().await;
            match Self::start_on(SocketAddr::new(ip, port(&first))).await {
                Ok(echo) => return (first, echo),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
            }
        }
        panic!("no port is free at both");
    }

    async fn start_on(address: SocketAddr) -> io::Result<Self> {
        let target = TcpTarget::start_on(address).await?;
        let (address, accepted) = (target.address(), watch::Sender::new(0));
        let mut task = JoinSet::new();
        task.spawn(echo_all(target.listener, accepted.clone()));
        Ok(Self { address, accepted, _task: task })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections that came so far.
    pub(crate) fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }
}

/// A TCP target whose connections are in the test's hands.
pub(crate) struct TcpTarget {
    listener: TcpListener,
}

impl TcpTarget {
    /// On 127.0.0.1.
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// On `ip`.
    pub(crate) async fn start_at(ip: IpAddr) -> Self {
        Self::start_on(SocketAddr::new(ip, 0)).await.expect("a free port")
    }

    async fn start_on(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        descriptors::is_target(listener.local_addr().expect("it is bound"));
        Ok(Self { listener })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> TcpStream {
        within("a connection to the target", self.listener.accept()).await.expect("a connection").0
    }
}

/// A TCP target that never answers a SYN: its accept queue is full.
pub(crate) struct TcpBlackHole {
    socket: Socket,
    /// The one that fills the queue.
    _filler: TcpStream,
}

impl TcpBlackHole {
    /// On 127.0.0.1.
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// On `ip`.
    pub(crate) async fn start_at(ip: IpAddr) -> Self {
        let address = SocketAddr::new(ip, 0);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.bind(&address.into()).expect("a free port");
        // A queue of 0 holds one connection (Linux); SYNs to a full queue are dropped.
        socket.listen(0).expect("a listening socket");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("it is IPv4 or IPv6");
        descriptors::is_target(address);
        let filler = within("the queue to fill", TcpStream::connect(address)).await.expect("the first connection fits");
        descriptors::is_target(filler.local_addr().expect("it is connected"));
        Self { socket, _filler: filler }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound").as_socket().expect("it is IPv4 or IPv6")
    }
}

/// An address of 127.0.0.1 that refuses connections.
pub(crate) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Breaks a connection off with RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
    drop(stream);
}

/// Reads until `count` bytes are there.
pub(crate) async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    within("bytes at the target", stream.read_exact(&mut bytes)).await.expect("as many bytes as expected");
    bytes
}

/// Reads until the relay has finished its side.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within("the end of what the relay sends", stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

async fn echo_all(listener: TcpListener, accepted: watch::Sender<usize>) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (stream, _) = connection.expect("loopback accepts");
                accepted.send_modify(|count| *count += 1);
                streams.spawn(echo(stream));
            }
            Some(done) = streams.join_next() => done.expect("an echo does not panic"),
        }
    }
}

async fn echo(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    // The relay may break off at any time; then there is nobody to tell.
    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
        write.shutdown().await.ok();
    }
}
