//! The socket towards clients, as quinn wants it. It shows what it receives to [`Strangers`]. Else it is what quinn makes of a socket itself, but for
//! three things that cost system calls:
//!
//! - It is watched for reading only. Watched for writing too, every packet sent would wake the worker once more, when the kernel frees it. Only
//!   while the kernel's buffer is full does a duplicate wait for room.
//! - A receive that comes back short has emptied it: there is no second one to hear so.
//! - quinn sends ten packets at a time; those that follow each other leave in one send ([`Train`]), a few microseconds later.

mod train;

use std::{
    fmt, io,
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::unix::AsyncFd;

use super::strangers::Strangers;
use crate::sys;
use train::Train;

/// Messages asked for until a receive comes back full: each one asked for costs, used or not.
const FEW: usize = 4;

/// One for each worker and address.
#[derive(Debug)]
pub(super) struct ClientSocket {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    strangers: Strangers,
    /// The last receive came back full.
    busy: AtomicBool,
    /// The last send found no room.
    full: AtomicBool,
    /// The duplicate that waits for room, while somebody does.
    room: Mutex<Weak<AsyncFd<UdpSocket>>>,
    held: Mutex<Held>,
}

/// What waits to leave together, at most until quinn's task that receives has looked twice: by then whoever had more to send has had its turn.
#[derive(Default)]
struct Held {
    train: Train,
    /// That task; nothing is held before it has looked once. As long as something is held it is either about to run, or waits for room.
    looking: Option<Waker>,
    /// Its wait for room.
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

impl ClientSocket {
    /// Takes a non-blocking socket. Must be called on the worker's runtime.
    pub(super) fn new(socket: UdpSocket, strangers: Strangers) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = sys::watch_reading(socket)?;
        Ok(Self {
            socket,
            state,
            strangers,
            busy: AtomicBool::new(false),
            full: AtomicBool::new(false),
            room: Mutex::default(),
            held: Mutex::default(),
        })
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.socket.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Relaxed);
        }
        sent
    }

    /// Sends what is held once nothing more was added to it, unless the kernel has no room: then when it has.
    fn depart(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut held = lock(&self.held);
        let Held { train, looking, waiting } = &mut *held;
        if looking.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *looking = Some(cx.waker().clone());
        }
        while !train.is_empty() {
            if waiting.is_some() {
                let Poll::Ready(room) = self.poll_room(waiting, cx) else { return Ok(()) };
                room?;
            } else if !train.stands_still() {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match train.leave(|all| self.send(all)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *waiting = Some(self.until_room()?);
                }
                left => return left,
            }
        }
        Ok(())
    }

    fn room(&self) -> io::Result<Arc<AsyncFd<UdpSocket>>> {
        let mut room = lock(&self.room);
        if let Some(shared) = room.upgrade() {
            return Ok(shared);
        }
        let shared = Arc::new(sys::watch_writing(self.socket.get_ref().try_clone()?)?);
        *room = Arc::downgrade(&shared);
        Ok(shared)
    }

    fn until_room(&self) -> io::Result<Waiting> {
        let room = self.room()?;
        Ok(Box::pin(async move {
            room.writable().await?.retain_ready();
            Ok(())
        }))
    }

    /// Goes on waiting, or begins to. What waited is gone when this is ready.
    fn poll_room(&self, waiting: &mut Option<Waiting>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wait = match waiting.take() {
            Some(wait) => wait,
            None => self.until_room()?,
        };
        let ended = wait.as_mut().poll(cx);
        match ended {
            Poll::Ready(Ok(())) => self.full.store(false, Relaxed),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => *waiting = Some(wait),
        }
        ended
    }
}

impl AsyncUdpSocket for ClientSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut held = lock(&self.held);
        let Held { train, looking: Some(looking), .. } = &mut *held else { return self.send(transmit) };
        let (mut begins, mut taken) = (train.is_empty(), train.takes(transmit));
        if !taken && !begins {
            // Not behind what comes later, even where that goes elsewhere.
            train.leave(|all| self.send(all))?;
            (begins, taken) = (true, train.takes(transmit));
        }
        if !taken {
            return self.send(transmit);
        }
        if begins {
            looking.wake_by_ref();
        } else if train.is_whole()
            && let Err(error) = train.leave(|all| self.send(all))
            && error.kind() != io::ErrorKind::WouldBlock
        {
            return Err(error);
        }
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        self.depart(cx)?;
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
                    for (buf, meta) in bufs.iter().zip(&*meta).take(count) {
                        self.strangers.look(&buf[..meta.len], meta.stride, meta.addr);
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
    waiting: Option<Waiting>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        if waiting.is_none() && !socket.full.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        socket.poll_room(waiting, cx)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("train", &self.train).field("waiting", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("waiting", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

/// Nothing panics while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        (Arc::new(ClientSocket::new(socket, Strangers::unseen()).unwrap()), client)
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

    /// What quinn sends to a client: `count` packets at once.
    fn send(socket: &ClientSocket, client: &UdpSocket, count: usize) {
        let contents = vec![7; 1200 * count];
        let segment_size = (count > 1).then_some(1200);
        socket
            .try_send(&Transmit { destination: client.local_addr().unwrap(), ecn: None, contents: &contents, segment_size, src_ip: None })
            .unwrap();
    }

    /// Packets the client has by now.
    fn came(client: &UdpSocket) -> usize {
        let mut memory = [0; 2000];
        std::iter::from_fn(|| client.recv(&mut memory).ok()).inspect(|length| assert_eq!(*length, 1200)).count()
    }

    #[tokio::test]
    async fn tens_wait_for_more_and_leave_by_themselves_after_two_looks() {
        let (socket, client) = pair();
        client.set_nonblocking(true).unwrap();
        send(&socket, &client, 10);
        assert_eq!(came(&client), 10, "nobody has looked yet");
        let waker = futures_util::task::noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut look = || assert!(socket.poll_recv(&mut cx, &mut [], &mut []).is_pending());
        look();
        send(&socket, &client, 10);
        look();
        send(&socket, &client, 10);
        look();
        assert_eq!(came(&client), 0);
        look();
        assert_eq!(came(&client), 20);
        send(&socket, &client, 10);
        send(&socket, &client, 10);
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        send(&socket, &other, 1);
        assert_eq!((came(&client), came(&other)), (20, 1), "in their order");
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
