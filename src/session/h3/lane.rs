//! The client's side of a UDP tunnel on HTTP/3: DATAGRAM frames, and capsules on the request stream (RFC 9297 §3.5), mixed freely.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;

use super::{
    datagrams::{Datagrams, Registration},
    halves::{BodyHalf, SendHalf},
};
use crate::{
    ended::{Ended, Reset},
    metrics::{Loss, Way},
    proto::{
        capsule::{Capsule, CapsuleError, Capsules},
        datagram::Datagram,
        frame::data_header,
    },
    sys::Received,
    tunnel::{
        Lane,
        udp::{CapsuleQueue, Flow},
    },
};

/// The client's side of one UDP tunnel.
pub(super) struct DatagramLane {
    send: SendHalf,
    stopped: Pin<Box<dyn Future<Output = Option<Ended>> + Send>>,
    body: BodyHalf,
    capsules: Capsules,
    datagrams: Arc<Datagrams>,
    registration: Registration,
    flow: Arc<Flow>,
    queue: CapsuleQueue,
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
        Self { send, stopped, body, capsules: Capsules::default(), datagrams, registration, flow, queue: CapsuleQueue::new(frame, stall) }
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
}

impl Lane for DatagramLane {
    async fn recv(&mut self, into: &mut Vec<Bytes>) -> Result<(), Ended> {
        let mut chunks = VecDeque::new();
        let more = tokio::select! {
            biased;
            Some(ended) = &mut self.stopped => return Err(ended),
            ended = flush(&mut self.queue, &self.flow, &mut self.send) => return Err(ended),
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
            let send = &mut self.send;
            self.queue.send(packets.iter(), &self.flow, |cx, bytes| send.poll_write(cx, bytes));
        }
    }

    async fn end(mut self, ended: &Ended) {
        let inside = self.queue.is_inside();
        self.queue.abandon(&self.flow);
        match ended.reset() {
            Some(reset) => {
                self.send.reset(reset);
                self.body.stop(reset);
            }
            // Never a clean end within a capsule.
            None if inside => self.send.reset(Reset::Cancelled),
            None => self.send.finish(),
        }
        self.body.stop(Reset::Nothing);
    }
}

/// Sends on what waits, and resolves only when that is no use any more. Cancel safe.
async fn flush(queue: &mut CapsuleQueue, flow: &Flow, send: &mut SendHalf) -> Ended {
    poll_fn(|cx| match ready!(queue.poll_flush(cx, flow, |cx, bytes| send.poll_write(cx, bytes))) {
        Ok(()) => Poll::Pending,
        Err(ended) => Poll::Ready(ended),
    })
    .await
}

/// Each capsule has a DATA frame of its own, so that those behind it can still be dropped.
fn frame(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&data_header(length));
}

fn capsule_ended(error: CapsuleError) -> Ended {
    match error {
        CapsuleError::TooLong(_) => Ended::PayloadTooLong,
        CapsuleError::Truncated => Ended::Malformed("the stream ended inside a capsule"),
    }
}
