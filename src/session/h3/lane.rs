//! The client's side of a UDP tunnel on HTTP/3: DATAGRAM frames, and capsules on the request stream (RFC 9297 §3.5), mixed freely.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::{Sleep, sleep};

use super::{
    datagrams::{Datagrams, Registration},
    halves::{BodyHalf, SendHalf},
};
use crate::{
    ended::{Ended, Reset},
    metrics::{Loss, Way},
    proto::{
        capsule::{Capsule, CapsuleError, Capsules, write_udp_header},
        datagram::Datagram,
        frame::{DATA_HEADER, data_header},
    },
    sys::Received,
    tunnel::{Lane, udp::Flow},
};

/// Capsules written to a client in one go; packets beyond are dropped, as on a full queue.
const CAPSULES: usize = 64 * 1024;

/// The client's side of one UDP tunnel.
pub(super) struct DatagramLane {
    send: SendHalf,
    stopped: Pin<Box<dyn Future<Output = Option<Ended>> + Send>>,
    body: BodyHalf,
    capsules: Capsules,
    datagrams: Arc<Datagrams>,
    registration: Registration,
    flow: Arc<Flow>,
    unsent: Unsent,
    stall: Duration,
}

/// What the client did not take yet of a write: the rest of one frame of capsules.
#[derive(Default)]
struct Unsent {
    bytes: BytesMut,
    /// Runs out when the client has taken nothing of it for too long.
    patience: Option<Pin<Box<Sleep>>>,
}

impl DatagramLane {
    pub(super) fn new(
        send: SendHalf,
        body: BodyHalf,
        datagrams: Arc<Datagrams>,
        registration: Registration,
        flow: Arc<Flow>,
        stall: Duration,
    ) -> Self {
        let stopped = Box::pin(send.stopped());
        Self { send, stopped, body, capsules: Capsules::default(), datagrams, registration, flow, unsent: Unsent::default(), stall }
    }

    /// Takes the UDP payloads out of what came on the stream.
    fn decode(&mut self, chunks: VecDeque<Bytes>, into: &mut Vec<Bytes>) -> Result<(), Ended> {
        for mut chunk in chunks {
            while let Some(capsule) = self.capsules.next(&mut chunk).map_err(capsule_ended)? {
                // Unknown capsules are skipped (RFC 9297 §3.2).
                let Capsule::Datagram(datagram) = capsule else { continue };
                match Datagram::parse(datagram) {
                    Datagram::Udp(payload) => into.push(payload),
                    Datagram::UnknownContext(_) => self.flow.dropped(Way::Out, Loss::UnknownContext, 1),
                    Datagram::Truncated => return Err(Ended::Malformed("a DATAGRAM capsule without a context ID")),
                    Datagram::TooLong => return Err(Ended::PayloadTooLong),
                }
            }
        }
        Ok(())
    }

    /// Back, for a client that takes no QUIC datagrams: one DATA frame of whole capsules, or nothing while the last one is not sent (C-65).
    fn send_capsules(&mut self, packets: &Received<'_>) {
        if !self.unsent.bytes.is_empty() {
            return self.flow.dropped(Way::Back, Loss::Unread, packets.iter().count() as u64);
        }
        let mut frame = vec![0; DATA_HEADER];
        let (mut carried, mut bytes) = (0, 0);
        for payload in packets.iter() {
            // 10: type, length and context ID at their longest.
            if frame.len() + 10 + payload.len() > CAPSULES && carried > 0 {
                self.flow.dropped(Way::Back, Loss::NoRoom, 1);
                continue;
            }
            write_udp_header(payload.len(), &mut frame);
            frame.extend_from_slice(payload);
            carried += 1;
            bytes += payload.len() as u64;
        }
        let header = data_header(frame.len() - DATA_HEADER);
        frame[..DATA_HEADER].copy_from_slice(&header);
        self.unsent.bytes = BytesMut::from(&frame[..]);
        // What does not go at once is moved on by `recv`, which also learns of errors.
        if self.unsent.poll_flush(&mut self.send, self.stall, &mut Context::from_waker(Waker::noop())).is_ready() {
            self.unsent = Unsent::default();
        }
        self.flow.carried(Way::Back, carried, bytes);
    }
}

impl Lane for DatagramLane {
    async fn recv(&mut self, into: &mut Vec<Bytes>) -> Result<(), Ended> {
        let mut chunks = VecDeque::new();
        let more = tokio::select! {
            biased;
            Some(ended) = &mut self.stopped => return Err(ended),
            ended = self.unsent.flush(&mut self.send, self.stall) => return Err(ended),
            read = self.body.read(&mut chunks) => read?,
        };
        self.decode(chunks, into)?;
        if more {
            return Ok(());
        }
        self.capsules.end().map_err(capsule_ended)?;
        Err(Ended::ClientFinished)
    }

    fn send(&mut self, packets: &Received<'_>, _: &Flow) {
        // Chosen for each batch: SETTINGS may come later than the request.
        if self.datagrams.agreed() {
            self.datagrams.send_back(self.registration.quarter_id(), packets, &self.flow);
        } else {
            self.send_capsules(packets);
        }
    }

    async fn end(mut self, ended: &Ended) {
        match ended.reset() {
            Some(reset) => {
                self.send.reset(reset);
                self.body.stop(reset);
            }
            // Never a clean end within a capsule.
            None if !self.unsent.bytes.is_empty() => self.send.reset(Reset::Cancelled),
            None => self.send.finish(),
        }
        self.body.stop(Reset::Nothing);
    }
}

impl Unsent {
    /// Sends on, and resolves only when that is no use any more. Cancel safe.
    async fn flush(&mut self, send: &mut SendHalf, stall: Duration) -> Ended {
        std::future::poll_fn(|cx| match ready!(self.poll_flush(send, stall, cx)) {
            Ok(()) => {
                *self = Self::default();
                Poll::Pending
            }
            Err(ended) => Poll::Ready(ended),
        })
        .await
    }

    fn poll_flush(&mut self, send: &mut SendHalf, stall: Duration, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.bytes.is_empty() {
            match send.poll_write(cx, &self.bytes) {
                Poll::Ready(Ok(written)) => {
                    self.bytes.advance(written);
                    self.patience = None;
                }
                Poll::Ready(Err(ended)) => return Poll::Ready(Err(ended)),
                Poll::Pending => {
                    let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(stall)));
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Err(Ended::Stalled));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn capsule_ended(error: CapsuleError) -> Ended {
    match error {
        CapsuleError::TooLong(_) => Ended::PayloadTooLong,
        CapsuleError::Truncated => Ended::Malformed("the stream ended inside a capsule"),
    }
}
