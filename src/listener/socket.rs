//! The socket towards clients, as quinn wants it. It is what quinn makes of a socket itself, but for two things that cost system calls:
//!
//! - It is watched for reading only. Watched for writing too, every packet sent would wake the worker once more, when the kernel frees it. Only
//!   while the kernel's buffer is full does a duplicate wait for room.
//! - A receive that comes back short has emptied it: there is no second one to hear so.

use std::{
    fmt, io,
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Messages asked for until a receive comes back full: each one asked for costs, used or not.
const FEW: usize = 4;

/// One for each worker and address.
#[derive(Debug)]
pub(super) struct ClientSocket {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// The last receive came back full.
    busy: AtomicBool,
    /// The last send found no room.
    full: AtomicBool,
    /// The duplicate that waits for room, while somebody does.
    room: Mutex<Weak<AsyncFd<UdpSocket>>>,
}

impl ClientSocket {
    /// Takes a non-blocking socket. Must be called on the worker's runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = sys::watch_reading(socket)?;
        Ok(Self { socket, state, busy: AtomicBool::new(false), full: AtomicBool::new(false), room: Mutex::default() })
    }

    fn room(&self) -> io::Result<Arc<AsyncFd<UdpSocket>>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = room.upgrade() {
            return Ok(shared);
        }
        let shared = Arc::new(sys::watch_writing(self.socket.get_ref().try_clone()?)?);
        *room = Arc::downgrade(&shared);
        Ok(shared)
    }

    async fn until_room(self: Arc<Self>) -> io::Result<()> {
        self.room()?.writable().await?.retain_ready();
        self.full.store(false, Relaxed);
        Ok(())
    }
}

impl AsyncUdpSocket for ClientSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.socket.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Relaxed);
        }
        sent
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let most = bufs.len().min(meta.len());
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            let asked = if self.busy.load(Relaxed) { most } else { most.min(FEW) };
            match self.state.recv(self.socket.get_ref().into(), &mut bufs[..asked], &mut meta[..asked]) {
                Ok(count) => {
                    self.busy.store(count == asked, Relaxed);
                    if count < asked {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// One connection's wait for room.
struct Room {
    socket: Arc<ClientSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        if waiting.is_none() && !socket.full.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let wait = waiting.get_or_insert_with(|| Box::pin(socket.clone().until_room()));
        let ended = ready!(wait.as_mut().poll(cx));
        *waiting = None;
        Poll::Ready(ended)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("waiting", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::timeout;

    use super::*;

    fn pair() -> (Arc<ClientSocket>, UdpSocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        (Arc::new(ClientSocket::new(socket).unwrap()), client)
    }

    /// One receive, as many buffers as quinn gives.
    async fn received(socket: &ClientSocket) -> usize {
        let mut memory = vec![[0; 1500]; 32];
        let mut meta = [RecvMeta::default(); 32];
        let mut bufs: Vec<_> = memory.iter_mut().map(|bytes| IoSliceMut::new(bytes)).collect();
        let receive = poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta));
        timeout(Duration::from_secs(5), receive).await.expect("packets wait").unwrap()
    }

    #[tokio::test]
    async fn all_that_comes_is_received_whether_alone_or_in_bursts() {
        let (socket, client) = pair();
        for burst in [1, 1, FEW, 3 * FEW, 1, 40, 2] {
            for _ in 0..burst {
                client.send(b"packet").unwrap();
            }
            let mut left = burst;
            while left > 0 {
                left -= received(&socket).await;
            }
        }
    }

    #[tokio::test]
    async fn a_full_buffer_is_waited_for_by_all_and_then_forgotten() {
        let (socket, _client) = pair();
        let mut pollers = [socket.clone().create_io_poller(), socket.clone().create_io_poller()];
        socket.full.store(true, Relaxed);
        // A fresh duplicate is not known to be writable until the runtime has looked.
        let first = poll_fn(|cx| Poll::Ready(pollers.iter_mut().map(|poller| poller.as_mut().poll_writable(cx)).collect::<Vec<_>>())).await;
        assert!(first.iter().all(Poll::is_pending), "{first:?}");
        assert_eq!(socket.room.lock().unwrap().strong_count(), 2, "both share one duplicate");
        for poller in &mut pollers {
            timeout(Duration::from_secs(5), poll_fn(|cx| poller.as_mut().poll_writable(cx))).await.expect("there is room").unwrap();
        }
        assert_eq!((socket.full.load(Relaxed), socket.room.lock().unwrap().strong_count()), (false, 0));
        let again = poll_fn(|cx| Poll::Ready(pollers[0].as_mut().poll_writable(cx))).await;
        assert!(again.is_ready());
    }
}
