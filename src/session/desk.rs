//! The front desk: h3's transport traits over quinn, made so that h3 keeps the control plane and nothing else.
//!
//! ```text
//! client's control stream ──▶ inbound: checked, capped ──▶ h3 (SETTINGS, GOAWAY)
//! client's QPACK streams  ──▶ inbound: nothing but what a table of capacity 0 allows
//! our control stream      ◀── SETTINGS as configured, GOAWAY ours
//! request streams             h3 never sees one: its type for them has no values
//! ```
//!
//! This is the only file that names h3. Promises, each with a test in `tests/relay`:
//!
//! 1. *Our SETTINGS leave in the first flight*: opening writes them before the handshake is over.
//! 2. *A frame of any declared length on the control stream costs bounded memory.*
//! 3. *A critical stream is never closed by us, and found by its type, never by its number.*
//! 4. *A GOAWAY is written whole*, and nothing waits for it.

mod inbound;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use tokio::sync::watch;

use super::link::Link;
use crate::{
    diagnosis::{By, record::Act},
    proto::{frame, settings::Settings, write_varint},
    record::{Critical, What},
};
use inbound::{Breach, Inbound};

/// The control plane of one connection. Must be driven for as long as the connection lives.
pub(super) struct Desk {
    h3: h3::server::Connection<Transport, Bytes>,
    shared: Arc<Shared>,
}

/// What the rest of the session may ask of the control plane.
#[derive(Clone)]
pub(super) struct Control(Arc<Shared>);

/// Why the control plane is over: the connection is, or h3 closed it.
#[derive(Debug)]
pub(super) struct Over;

struct Shared {
    link: Link,
    /// The client's SETTINGS, once they came.
    settings: watch::Sender<Option<Settings>>,
    /// Our control stream, once it is open.
    control: OnceLock<Arc<Mutex<Outbound>>>,
    /// The client's QPACK streams, which h3 opens and never reads.
    watched: Mutex<Vec<Peer>>,
    /// Resolve when the client stops one of our critical streams, with its name.
    stops: Mutex<FuturesUnordered<Stop>>,
}

type Stop = Pin<Box<dyn Future<Output = Option<&'static str>> + Send>>;

impl Desk {
    /// Opens our unidirectional streams and writes SETTINGS. Needs the peer's transport parameters: only after
    /// `handshake_data()` resolved, or opening a stream may wait for ever.
    pub(super) async fn open(link: Link, settings: Settings) -> Result<Self, Over> {
        let shared = Arc::new(Shared {
            link: link.clone(),
            settings: watch::Sender::new(None),
            control: OnceLock::new(),
            watched: Mutex::new(Vec::new()),
            stops: Mutex::default(),
        });
        let transport = Transport {
            uni: h3_quinn::Connection::new((*link).clone()),
            opening: None,
            settings: Some(settings),
            shared: Arc::clone(&shared),
        };
        let h3 = h3::server::builder().send_grease(false).build(transport).await.map_err(|_| Over)?;
        Ok(Self { h3, shared })
    }

    /// A handle for the rest of the session.
    pub(super) fn control(&self) -> Control {
        Control(Arc::clone(&self.shared))
    }

    /// Drives the control plane until the connection is over, and sends on what waits on our control stream. Cancel safe.
    pub(super) async fn drive(&mut self) -> Over {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        // `Ok(None)` means that the client sent GOAWAY and h3 knows of no request: ours may well be running.
        if let Poll::Ready(Err(_)) = self.h3.poll_accept_request_stream(cx) {
            return Poll::Ready(Over);
        }
        for peer in lock(&self.shared.watched).iter_mut() {
            if peer.watch(cx).is_err() {
                return Poll::Ready(Over);
            }
        }
        while let Poll::Ready(Some(stopped)) = lock(&self.shared.stops).poll_next_unpin(cx) {
            if let Some(stream) = stopped {
                self.shared.critical(By::Client, Act::Stopped, stream);
            }
        }
        self.shared.flush_control(cx);
        Poll::Pending
    }
}

impl Shared {
    /// Notes the end of a critical stream, ours or the client's.
    fn critical(&self, by: By, act: Act, stream: &'static str) {
        self.link.note(0, What::Critical(Box::new(Critical { by, act, stream })));
    }

    fn closed_by_client(&self, stream: &Inbound, act: Act, breach: Breach) -> Breach {
        if let Some(name) = stream.critical() {
            self.critical(By::Client, act, name);
        }
        breach
    }

    /// Looks out for the client's STOP_SENDING on one of ours.
    fn watch_stop(&self, stream: &quinn::SendStream, name: &'static str) {
        let stopped = stream.stopped();
        lock(&self.stops).push(Box::pin(async move { stopped.await.ok().flatten().map(|_| name) }));
    }

    /// Sends what waits on our control stream as far as the client's credit goes.
    fn flush_control(&self, cx: &mut Context<'_>) {
        if let Some(outbound) = self.control.get() {
            // The stream is gone only with the connection, whose owner learns of that by itself.
            let (Poll::Ready(_) | Poll::Pending) = lock(outbound).poll_flush(cx);
        }
    }
}

impl Control {
    /// The client's SETTINGS: `None` until they arrive.
    pub(super) fn settings(&self) -> watch::Receiver<Option<Settings>> {
        self.0.settings.subscribe()
    }

    /// Tells the client that requests on streams of `id` and above are not processed (RFC 9114 §5.2). Never waits: the frame is queued whole, and
    /// what the client gives no credit for now is sent by [`Desk::drive`].
    pub(super) fn goaway(&self, id: u64) {
        let Some(outbound) = self.0.control.get() else { return };
        let mut payload = Vec::with_capacity(8);
        write_varint(id, &mut payload);
        lock(outbound).queue.extend_from_slice(&frame::encode(frame::GOAWAY, &payload));
        self.0.flush_control(&mut Context::from_waker(Waker::noop()));
    }
}

/// quinn behind h3's traits.
struct Transport {
    uni: h3_quinn::Connection,
    opening: Option<OpenUni>,
    /// What our control stream says; taken when that stream, the first one h3 opens, is opened.
    settings: Option<Settings>,
    shared: Arc<Shared>,
}

type OpenUni = Pin<Box<dyn Future<Output = Result<quinn::SendStream, quinn::ConnectionError>> + Send + Sync>>;

impl<B: Buf> quic::OpenStreams<B> for Transport {
    type BidiStream = Request;
    type SendStream = Uni;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Request, StreamErrorIncoming>> {
        Poll::Pending
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Uni, StreamErrorIncoming>> {
        let quinn = (*self.shared.link).clone();
        let opening = self.opening.get_or_insert_with(|| Box::pin(async move { quinn.open_uni().await }));
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        let stream = opened.map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) })?;
        let outbound = Arc::new(Mutex::new(Outbound { stream, queue: BytesMut::new() }));
        let settings = self.settings.take();
        if settings.is_some() {
            self.shared.control.get_or_init(|| Arc::clone(&outbound));
        }
        Poll::Ready(Ok(Uni { outbound, settings, shared: Arc::clone(&self.shared), named: false }))
    }

    fn close(&mut self, code: h3::error::Code, reason: &[u8]) {
        self.shared.link.close(code.value(), String::from_utf8_lossy(reason).into_owned());
    }
}

impl<B: Buf> quic::Connection<B> for Transport {
    type RecvStream = Peer;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Peer, ConnectionErrorIncoming>> {
        let stream = ready!(<h3_quinn::Connection as quic::Connection<B>>::poll_accept_recv(&mut self.uni, cx))?;
        let id = quic::RecvStream::recv_id(&stream);
        Poll::Ready(Ok(Peer { id, stream: Some(stream), inbound: Inbound::default(), shared: Arc::clone(&self.shared) }))
    }

    fn poll_accept_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Request, ConnectionErrorIncoming>> {
        Poll::Pending
    }

    fn opener(&self) -> Opener {
        Opener
    }
}

/// h3 asks for an opener of further streams and, as a server, never uses it.
struct Opener;

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = Request;
    type SendStream = Uni;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Request, StreamErrorIncoming>> {
        Poll::Pending
    }

    fn poll_open_send(&mut self, _: &mut Context<'_>) -> Poll<Result<Uni, StreamErrorIncoming>> {
        Poll::Pending
    }

    fn close(&mut self, _: h3::error::Code, _: &[u8]) {}
}

/// A request stream as h3 sees it: there is none.
enum Request {}

impl<B: Buf> quic::SendStream<B> for Request {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        match *self {}
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, _: T) -> Result<(), StreamErrorIncoming> {
        match *self {}
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        match *self {}
    }

    fn reset(&mut self, _: u64) {
        match *self {}
    }

    fn send_id(&self) -> StreamId {
        match *self {}
    }
}

impl quic::RecvStream for Request {
    type Buf = Bytes;

    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        match *self {}
    }

    fn stop_sending(&mut self, _: u64) {
        match *self {}
    }

    fn recv_id(&self) -> StreamId {
        match *self {}
    }
}

impl<B: Buf> quic::BidiStream<B> for Request {
    type SendStream = Request;
    type RecvStream = Request;

    fn split(self) -> (Request, Request) {
        match self {}
    }
}

/// One of our unidirectional streams, with what is still to be written.
struct Outbound {
    stream: quinn::SendStream,
    queue: BytesMut,
}

impl Outbound {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), quinn::WriteError>> {
        while !self.queue.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.queue))?;
            self.queue.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// A unidirectional stream for h3 to write to; what it says on the control stream is replaced by our SETTINGS.
struct Uni {
    outbound: Arc<Mutex<Outbound>>,
    settings: Option<Settings>,
    shared: Arc<Shared>,
    /// Its type is known.
    named: bool,
}

impl<B: Buf> quic::SendStream<B> for Uni {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        lock(&self.outbound).poll_flush(cx).map_err(write_error)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        let mut outbound = lock(&self.outbound);
        if let Some(settings) = self.settings.take() {
            self.named = true;
            self.shared.watch_stop(&outbound.stream, "control");
            self.shared.link.log().settings_sent(&settings.0);
            // The stream's type is 0x00 (RFC 9114 §6.2.1).
            outbound.queue.extend_from_slice(&[0x00]);
            outbound.queue.extend_from_slice(&frame::encode(frame::SETTINGS, &settings.encode()));
            return Ok(());
        }
        let mut written: WriteBuf<B> = data.into();
        let bytes = written.copy_to_bytes(written.remaining());
        if !std::mem::replace(&mut self.named, true) {
            match bytes.first() {
                Some(0x02) => self.shared.watch_stop(&outbound.stream, "encoder"),
                Some(0x03) => self.shared.watch_stop(&outbound.stream, "decoder"),
                _ => {}
            }
        }
        outbound.queue.extend_from_slice(&bytes);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(())) // a critical stream is never finished
    }

    fn reset(&mut self, _: u64) {} // nor reset

    fn send_id(&self) -> StreamId {
        u64::from(lock(&self.outbound).stream.id()).try_into().expect("quinn's stream ids have 62 bits")
    }
}

/// One of the client's unidirectional streams. h3 reads the checked rest of it; a QPACK stream stays here and h3 gets its type only.
struct Peer {
    id: StreamId,
    /// `None` once it was handed over to be watched.
    stream: Option<h3_quinn::RecvStream>,
    inbound: Inbound,
    shared: Arc<Shared>,
}

impl Peer {
    /// Reads on, and gives what h3 may see; an error has closed the connection.
    fn poll_checked(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        loop {
            let checked = match ready!(quic::RecvStream::poll_data(stream, cx)) {
                Ok(Some(chunk)) => self.inbound.feed(chunk),
                Ok(None) => match self.inbound.ended() {
                    Ok(()) => return Poll::Ready(Ok(None)),
                    Err(breach) => Err(self.shared.closed_by_client(&self.inbound, Act::Finished, breach)),
                },
                Err(error @ StreamErrorIncoming::StreamTerminated { .. }) => match self.inbound.ended() {
                    Ok(()) => return Poll::Ready(Err(error)),
                    Err(breach) => Err(self.shared.closed_by_client(&self.inbound, Act::Reset, breach)),
                },
                Err(error) => return Poll::Ready(Err(error)),
            };
            let visible = match checked {
                Ok(visible) => visible,
                Err(Breach { code, why }) => {
                    self.shared.link.close(code, why);
                    let connection_error = ConnectionErrorIncoming::InternalError(why.into());
                    return Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }));
                }
            };
            if let Some(settings) = self.inbound.settings() {
                self.shared.link.log().settings_received(&settings.0);
                self.shared.settings.send_replace(Some(settings));
            }
            if !visible.is_empty() {
                return Poll::Ready(Ok(Some(visible)));
            }
        }
    }

    /// Reads a QPACK stream on h3's behalf.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), Over> {
        match self.poll_checked(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(_)) => {
                cx.waker().wake_by_ref();
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(Over),
        }
    }
}

impl quic::RecvStream for Peer {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let read = ready!(self.poll_checked(cx));
        if self.inbound.is_qpack()
            && let Some(stream) = self.stream.take()
        {
            let inbound = std::mem::take(&mut self.inbound);
            lock(&self.shared.watched).push(Self { id: self.id, stream: Some(stream), inbound, shared: Arc::clone(&self.shared) });
            cx.waker().wake_by_ref();
        }
        Poll::Ready(read)
    }

    fn stop_sending(&mut self, code: u64) {
        if let Some(stream) = &mut self.stream {
            if let Some(critical) = self.inbound.critical() {
                self.shared.critical(By::Relay, Act::Stopped, critical);
            }
            quic::RecvStream::stop_sending(stream, code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

fn connection_error(error: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into() }
        }
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn write_error(error: quinn::WriteError) -> StreamErrorIncoming {
    match error {
        quinn::WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        quinn::WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
        }
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

/// Nothing panics while one of these locks is held, and no state in them is half changed when something does.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
