//! Targets that send back what they get, TCP and UDP, each on a port of its own.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A running echo. Dropping it stops its threads and waits for them.
pub(crate) struct Echo {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    stop: Arc<AtomicBool>,
    wake: fn(SocketAddr) -> io::Result<()>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Echoes TCP connections: bytes as they come, then the end.
    pub(crate) fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        Self::run(
            addr,
            |addr| TcpStream::connect(addr).map(drop),
            move |stop| {
                thread::scope(|connections| {
                    while let Ok((stream, _)) = listener.accept() {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        connections.spawn(move || echo(&stream));
                    }
                });
            },
        )
    }

    /// Echoes UDP packets to where they came from.
    pub(crate) fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let wake = |addr| UdpSocket::bind("127.0.0.1:0")?.send_to(b"", addr).map(drop);
        Self::run(addr, wake, move |stop| {
            let mut packet = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let (len, from) = socket.recv_from(&mut packet).unwrap();
                socket.send_to(&packet[..len], from).unwrap();
            }
        })
    }

    fn run(addr: SocketAddr, wake: fn(SocketAddr) -> io::Result<()>, serve: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&stopped));
        Self { addr, stop, wake, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let woken = (self.wake)(self.addr);
        let joined = self.thread.take().map_or(Ok(()), JoinHandle::join);
        // A second panic while one unwinds would abort and hide the first.
        if !thread::panicking() {
            woken.unwrap();
            joined.unwrap();
        }
    }
}

/// One connection, until the client closes, breaks, or says nothing for [`SILENCE`].
fn echo(stream: &TcpStream) {
    let (mut reader, mut writer) = (stream, stream);
    let ended = stream.set_read_timeout(Some(SILENCE)).and_then(|()| io::copy(&mut reader, &mut writer));
    if let Err(error) = ended {
        eprintln!("echo: {error}");
    }
}

/// As long as a client waits: it has given up by then.
const SILENCE: Duration = Duration::from_mins(1);
