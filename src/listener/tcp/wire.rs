//! A client's TCP socket under TLS: one receive for up to 64 KiB, and writes gathered to as much.
//!
//! rustls reads 4 KiB at a time, and h2 flushes every frame of 16 KiB: by themselves both would pay a system call for each. What is read ahead
//! stays here until TLS asks for it. What is written waits here while the connection's task has more to say, and leaves when it has said it
//! ([`Outbox::poll_send`]). An idle connection holds no buffer.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{
    listener::{Seen, hello::Ear},
    proto::hello::Over,
    tunnel::{ReadSize, tcp::broken},
};

/// What is gathered before it must leave; at most one write of TLS (64 KiB) more is held.
const GATHERED: usize = 64 * 1024;

/// A write of so many bytes carries data, and a shorter one an answer or credit.
const DATA: usize = 4 * 1024;

/// One receive from a client that is not known yet: heads can be a hundred times as large as they are on the wire.
const AT_FIRST: usize = 16 * 1024;

/// The socket, for TLS to read from and write to.
#[derive(Debug)]
pub struct Wire {
    /// Received, and not asked for yet.
    ahead: BytesMut,
    size: ReadSize,
    out: Outbox,
    /// Until the ClientHello is whole.
    ear: Option<Box<Ear>>,
}

/// The way out of a [`Wire`], for the task that owns the connection.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Out>);

/// Not tokio's two halves of a socket: one that is dropped says FIN, also ahead of a RST.
#[derive(Debug)]
struct Out {
    socket: TcpStream,
    counted: Arc<Counted>,
    gathered: Mutex<Gathered>,
}

/// Bytes that went through a client's socket: received, and sent.
#[derive(Debug, Default)]
pub struct Counted([AtomicU64; 2]);

impl Counted {
    /// So far.
    pub fn now(&self) -> [u64; 2] {
        self.0.each_ref().map(|count| count.load(Relaxed))
    }
}

#[derive(Debug, Default)]
struct Gathered {
    held: BytesMut,
    /// A flush means nothing: [`Outbox::poll_send`] sends.
    gathering: bool,
    receives: Receives,
}

/// How much may be received before the connection's task has looked at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receives {
    /// As much as there is.
    #[default]
    Any,
    /// One receive of at most [`AT_FIRST`] bytes.
    One,
    /// Nothing.
    None,
    /// Nothing, and more was asked for.
    Wanted,
}

impl Wire {
    /// Around a connected socket, with a ClientHello to come for `seen`; everything is sent at once until [`Outbox::gather`].
    pub fn new(stream: TcpStream, seen: Option<Seen>) -> (Self, Outbox) {
        let out = Outbox(Arc::new(Out { socket: stream, counted: Arc::default(), gathered: Mutex::default() }));
        let ear = seen.map(|seen| Box::new(Ear::new(Over::Tcp, seen)));
        (Self { ahead: BytesMut::new(), size: ReadSize::default(), out: out.clone(), ear }, out)
    }
}

impl Outbox {
    /// What goes through; does not keep the socket open.
    pub fn counted(&self) -> Arc<Counted> {
        Arc::clone(&self.0.counted)
    }

    /// From now on writes wait for [`Self::poll_send`].
    pub fn gather(&self) {
        self.0.lock().gathering = true;
    }

    /// From now on as much is received as there is.
    pub fn receive_any(&self) {
        self.0.lock().receives = Receives::Any;
    }

    /// From now on there is one receive, or none.
    pub fn receive_once(&self, one: bool) {
        self.0.lock().receives = if one { Receives::One } else { Receives::None };
    }

    /// Whether more than that was asked for: nobody is woken for it.
    pub fn wants_to_receive(&self) -> bool {
        self.0.lock().receives == Receives::Wanted
    }

    /// Sends what was gathered, as far as the socket takes it; ready when nothing is left.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(&mut self.0.lock().held, cx)
    }

    /// Closing the socket becomes a RST: what ends in an abort must not look like an end.
    pub fn abort(&self) {
        if let Err(error) = SockRef::from(&self.0.socket).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a client cannot be reset");
        }
    }

    /// Says FIN, and throws away what the client still sends until it says so too, or is gone: a socket that is closed with something unread, or
    /// gets something afterwards, becomes a RST, and what it has not sent yet is lost. For when nothing else reads it; the wait is the caller's to bound.
    pub async fn linger(&self) {
        // It has been said already where the end was orderly.
        SockRef::from(&self.0.socket).shutdown(Shutdown::Write).unwrap_or_default();
        while let Ok(bytes) = poll_fn(|cx| self.0.poll_read(cx, AT_FIRST)).await
            && !bytes.is_empty()
        {}
    }

    /// Resolves when the client has reset its connection, for when nobody reads it. Cancel safe.
    pub async fn broken(&self) -> io::Error {
        broken(&self.0.socket).await
    }
}

impl Out {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // Whole between any two statements.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_send(&self, held: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !held.is_empty() {
            let sent = ready!(self.poll_write(cx, &[IoSlice::new(held)]))?;
            held.advance(sent);
        }
        // Not kept: most connections are idle most of the time.
        *held = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// One write, of as much as the socket takes.
    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write_vectored(bufs) {
                Ok(written) => {
                    self.counted.0[1].fetch_add(written as u64, Relaxed);
                    if written < bufs.iter().map(|buf| buf.len()).sum() {
                        self.is_dry(Interest::WRITABLE);
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// One read, of as much as there is, up to `most`.
    fn poll_read(&self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<BytesMut>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            let mut bytes = BytesMut::with_capacity(most);
            match self.socket.try_read_buf(&mut bytes) {
                Ok(read) => {
                    self.counted.0[0].fetch_add(read as u64, Relaxed);
                    if (1..most).contains(&read) {
                        self.is_dry(Interest::READABLE);
                    }
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The socket gave or took less than it could have: until the system says otherwise, another call would find nothing.
    fn is_dry(&self, interest: Interest) {
        self.socket.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into())).unwrap_or_default();
    }
}

impl Gathered {
    /// How much may be received now; `None`: nothing, and that is noted.
    fn allowed(&mut self) -> Option<usize> {
        match self.receives {
            Receives::Any => Some(usize::MAX),
            Receives::One => Some(AT_FIRST),
            Receives::None | Receives::Wanted => {
                self.receives = Receives::Wanted;
                None
            }
        }
    }

    fn received(&mut self) {
        if self.receives == Receives::One {
            self.receives = Receives::None;
        }
    }
}

/// Memory for `bytes` more. A record of data is seldom alone: what grew with each would be copied as it grows.
fn reserve(held: &mut BytesMut, bytes: usize) {
    if held.capacity() - held.len() < bytes {
        let more = if bytes < DATA { 0 } else { GATHERED.saturating_sub(held.len()) };
        held.reserve(bytes + more);
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            let most = match this.out.0.lock().allowed() {
                Some(most) => most.min(this.size.get()),
                None => return Poll::Pending,
            };
            this.ahead = ready!(this.out.0.poll_read(cx, most))?;
            this.size.learn(this.ahead.len());
            this.out.0.lock().received();
        }
        let taken = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..taken]);
        if this.ear.as_mut().is_some_and(|ear| ear.hear(&this.ahead[..taken])) {
            this.ear = None;
        }
        this.ahead.advance(taken);
        if this.ahead.is_empty() {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let out = &self.out.0;
        let mut gathered = out.lock();
        if !gathered.gathering {
            // Straight on: whoever writes here need not flush, as TLS does not behind an alert.
            return out.poll_write(cx, bufs);
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        let held = &mut gathered.held;
        // Room for one more write.
        if held.len() >= GATHERED {
            ready!(out.poll_send(held, cx))?;
        }
        let before = held.len();
        reserve(held, wanted);
        for buf in bufs {
            held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(held.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held but while gathering, and that is sent by [`Outbox::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.out.poll_send(cx))?;
        Poll::Ready(SockRef::from(&self.out.0.socket).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    /// A wire, and its other end.
    async fn pair() -> (Wire, Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (wire, outbox) = Wire::new(accepted.unwrap().0, None);
        (wire, outbox, client.unwrap())
    }

    fn held(outbox: &Outbox) -> usize {
        outbox.0.lock().held.len()
    }

    #[tokio::test]
    async fn what_is_written_waits_while_gathering_and_leaves_at_once_otherwise() {
        let (mut wire, outbox, mut client) = pair().await;
        wire.write_all(b"one").await.unwrap();
        let mut got = [0; 3];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one");

        outbox.gather();
        let mut capacities = Vec::new();
        for _ in 0..4 {
            wire.write_all(&[7; 16 << 10]).await.unwrap();
            wire.flush().await.unwrap();
            capacities.push(outbox.0.lock().held.capacity());
        }
        assert_eq!(held(&outbox), GATHERED, "nothing has left");
        assert_eq!(capacities, [capacities[0]; 4], "what is held was copied as it grew");
        poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
        assert_eq!((held(&outbox), outbox.0.lock().held.capacity()), (0, 0), "an idle connection holds no buffer");
        let mut got = vec![0; GATHERED];
        client.read_exact(&mut got).await.unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_stops_the_writer_at_the_bound() {
        let (mut wire, outbox, mut client) = pair().await;
        outbox.gather();
        let chunk = [1; 16 << 10];
        let mut written = 0;
        // Until the socket's buffers are full too.
        while let Ok(done) = timeout(Duration::from_millis(200), wire.write(&chunk)).await {
            written += done.unwrap();
            assert!(written < 64 << 20, "no bound");
        }
        assert!((GATHERED..GATHERED + chunk.len()).contains(&held(&outbox)), "{}", held(&outbox));
        let reading = async {
            let mut got = vec![0; written];
            client.read_exact(&mut got).await.unwrap();
        };
        let sending = poll_fn(|cx| outbox.poll_send(cx));
        let ((), sent) = tokio::join!(reading, sending);
        sent.unwrap();
    }

    #[tokio::test]
    async fn what_is_received_in_one_go_is_read_in_pieces() {
        let (mut wire, _outbox, mut client) = pair().await;
        client.write_all(b"abcdef").await.unwrap();
        let mut piece = [0; 2];
        for want in [b"ab", b"cd", b"ef"] {
            wire.read_exact(&mut piece).await.unwrap();
            assert_eq!(&piece, want);
        }
        assert_eq!(wire.ahead.capacity(), 0, "an idle connection holds no buffer");
        client.shutdown().await.unwrap();
        assert_eq!(wire.read(&mut piece).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_that_is_not_known_is_received_from_once_at_a_time() {
        let (mut wire, outbox, mut client) = pair().await;
        let sent = vec![5; 64 << 10];
        client.write_all(&sent).await.unwrap();
        let mut got = Vec::new();
        let mut piece = vec![0; 32 << 10];
        while got.len() < sent.len() {
            outbox.receive_once(true);
            let len = wire.read(&mut piece).await.unwrap();
            assert!(len <= AT_FIRST, "{len} bytes at once");
            got.extend_from_slice(&piece[..len]);
            assert!(!outbox.wants_to_receive());
            let more = poll_fn(|cx| Poll::Ready(Pin::new(&mut wire).poll_read(cx, &mut ReadBuf::new(&mut piece)).is_pending()));
            assert!(more.await && outbox.wants_to_receive());
        }
        outbox.receive_any();
        client.write_all(b"more").await.unwrap();
        assert_eq!(wire.read(&mut piece).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn an_abort_is_a_reset_and_no_end() {
        let (wire, outbox, mut client) = pair().await;
        outbox.abort();
        drop(wire);
        // Whichever part lives longest, nothing says FIN ahead of the reset.
        assert!(timeout(Duration::from_millis(50), client.read(&mut [0; 8])).await.is_err());
        drop(outbox);
        let error = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_reset_behind_the_clients_end_is_seen() {
        let (mut wire, outbox, mut client) = pair().await;
        client.shutdown().await.unwrap();
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(timeout(Duration::from_millis(50), outbox.broken()).await.is_err());
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(outbox.broken().await.kind(), io::ErrorKind::BrokenPipe);
    }

    /// More than two sockets' buffers hold, with a byte of the client's unread: what is closed now is cut off.
    #[tokio::test]
    async fn who_lingers_gets_everything_to_a_client_that_still_talks() {
        const ALL: usize = 16 << 20;
        for lingers in [true, false] {
            let (mut wire, outbox, mut client) = pair().await;
            let sending = async {
                wire.write_all(&vec![7; ALL]).await?;
                drop(wire);
                if lingers {
                    outbox.linger().await;
                }
                drop(outbox);
                io::Result::Ok(())
            };
            // It closes when it has seen the end.
            let reading = async move {
                client.write_all(b"credit").await.unwrap();
                let mut got = 0;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match client.read(&mut buffer).await {
                        Ok(0) => return (got, Ok(())),
                        Ok(read) => got += read,
                        Err(error) => return (got, Err(error.kind())),
                    }
                }
            };
            let (sent, (got, end)) = tokio::join!(sending, reading);
            sent.unwrap();
            if lingers {
                assert_eq!((got, end), (ALL, Ok(())));
            } else {
                assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "closed with something unread");
            }
        }
    }
}
