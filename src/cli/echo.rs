//! An echo for the development relay: something to reach on a machine without a network.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// A running echo on loopback, TCP and UDP. Dropping it stops accepting; [`Self::finish`] waits for its tasks.
#[derive(Debug)]
pub struct Echo {
    /// Where TCP is echoed until half-closed.
    pub tcp: SocketAddr,
    /// Where every datagram is sent back.
    pub udp: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Echo {
    /// Takes free ports of 127.0.0.1. Must be called within a runtime.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let (tcp, udp) = (listener.local_addr()?, socket.local_addr()?);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept(listener, tasks.clone(), stop.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(reflect(socket)));
        Ok(Self { tcp, udp, tasks, stop })
    }

    /// Stops, and waits until every task is gone.
    pub async fn finish(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, tasks: TaskTracker, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let echo = stop.clone().run_until_cancelled_owned(async move {
                    let _room = permit;
                    if let Err(error) = repeat(stream).await {
                        debug!(%error, "an echo broke off");
                    }
                });
                tasks.spawn(echo);
            }
            // No descriptor left: wait for some to be closed rather than spin.
            Err(error) => {
                debug!(%error, "cannot accept for the echo");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sends back what comes, and finishes when the other side does.
async fn repeat(mut stream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    match timeout(LONGEST, tokio::io::copy(&mut from, &mut to)).await {
        Ok(copied) => copied?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    to.shutdown().await
}

/// Sends every datagram back where it came from. What the socket refuses is lost: it is UDP.
async fn reflect(socket: UdpSocket) {
    let mut packet = vec![0; 65_535];
    loop {
        let sent = match socket.recv_from(&mut packet).await {
            Ok((len, from)) => socket.send_to(&packet[..len], from).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            debug!(%error, "the echo lost a datagram");
        }
    }
}

/// Connections echoed at once; the rest waits in the kernel's backlog.
const MOST: usize = 1024;

/// Nobody tries an echo for longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn tcp_comes_back_and_ends_with_the_client() {
        let echo = Echo::start().await.unwrap();
        let mut stream = TcpStream::connect(echo.tcp).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"hello");
        echo.finish().await;
    }

    #[tokio::test]
    async fn datagrams_come_back_even_empty_ones() {
        let echo = Echo::start().await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(echo.udp).await.unwrap();
        for sent in [&b"hello"[..], b"", b"again"] {
            socket.send(sent).await.unwrap();
            let mut back = [0; 16];
            let len = socket.recv(&mut back).await.unwrap();
            assert_eq!(&back[..len], sent);
        }
        echo.finish().await;
    }

    #[tokio::test]
    async fn it_ends_with_a_connection_open() {
        let echo = Echo::start().await.unwrap();
        let mut stream = TcpStream::connect(echo.tcp).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        echo.finish().await;
        assert_eq!(stream.read(&mut back).await.unwrap_or(0), 0);
    }
}
