//! The client's side of a UDP tunnel on HTTP/3: DATAGRAM frames, and capsules on the request stream (RFC 9297 §3.5), mixed freely.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::{
    datagrams::{Datagrams, Registration},
    halves::{BodyHalf, SendHalf},
};
use crate::{
    ended::Ended,
    proto::frame::data_header,
    session::capsules::{CapsuleLane, PollWrite},
    sys::Received,
    tunnel::{Lane, udp::Flow},
};

/// The client's side of one UDP tunnel.
pub(super) struct DatagramLane {
    stopped: Pin<Box<dyn Future<Output = Option<Ended>> + Send>>,
    capsules: CapsuleLane<BodyHalf, SendHalf>,
    datagrams: Arc<Datagrams>,
    registration: Registration,
    flow: Arc<Flow>,
}

impl DatagramLane {
    /// `stall` is how long a capsule may stay half written.
    pub(super) fn new(
        send: SendHalf,
        body: BodyHalf,
        datagrams: Arc<Datagrams>,
        registration: Registration,
        flow: Arc<Flow>,
        stall: Duration,
    ) -> Self {
        let stopped = Box::pin(send.stopped());
        let capsules = CapsuleLane::new(body, send, frame, Arc::clone(&flow), stall);
        Self { stopped, capsules, datagrams, registration, flow }
    }
}

impl Lane for DatagramLane {
    async fn recv(&mut self, into: &mut Vec<Bytes>) -> Result<(), Ended> {
        tokio::select! {
            biased;
            Some(ended) = &mut self.stopped => Err(ended),
            received = self.capsules.recv(into) => received,
        }
    }

    fn send(&mut self, packets: &Received<'_>, flow: &Flow) {
        // Chosen for each batch: SETTINGS may come later than the request.
        if self.datagrams.agreed() {
            self.datagrams.send_back(self.registration.quarter_id(), packets, &self.flow);
        } else {
            self.capsules.send(packets, flow);
        }
    }

    async fn end(self, ended: &Ended) {
        self.capsules.end(ended).await;
    }
}

impl PollWrite for SendHalf {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Ended>> {
        Self::poll_write(self, cx, bytes)
    }
}

/// Each capsule has a DATA frame of its own, so that those behind it can still be dropped.
fn frame(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&data_header(length));
}
