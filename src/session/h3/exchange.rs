//! One request on HTTP/3, from its head to the end of its streams.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::{sleep, timeout};

use super::{
    datagrams::{Datagrams, Registration},
    halves::{BodyHalf, RecvHalf, SendHalf},
    lane::DatagramLane,
};
use crate::{
    ended::{Ended, Reset},
    proto::{
        frame::{self, DATA_HEADER, data_header},
        head::Head,
        qpack,
    },
    session::{ABORTING, ANSWERING, DISCARDED, DISCARDING, Exchange, window::Share},
    tunnel::{ClientRead, ClientWrite, HEADROOM, udp::Flow},
};

/// A request and its stream.
pub(super) struct H3Exchange {
    pub(super) head: Head,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    /// What came behind the head in its packet.
    pub(super) left: Bytes,
    /// The request's place among those that may get HTTP Datagrams.
    pub(super) registration: Registration,
    pub(super) datagrams: Arc<Datagrams>,
    pub(super) share: Share,
    pub(super) capsule_stall: Duration,
}

impl Exchange for H3Exchange {
    type Read = BodyHalf;
    type Write = SendHalf;
    type Lane = DatagramLane;

    fn take_head(&mut self) -> Head {
        std::mem::take(&mut self.head)
    }

    fn number(&self) -> u64 {
        self.registration.quarter_id() * 4
    }

    async fn abandoned(&mut self) -> Ended {
        let stopped = self.send.stopped();
        tokio::select! {
            ended = self.recv.abandoned() => ended,
            Some(ended) = stopped => ended,
        }
    }

    async fn accept_tcp(mut self, answer: Head) -> Result<(BodyHalf, SendHalf, impl Future<Output = Ended> + Send), Ended> {
        self.send.write(headers(&answer)).await?;
        let aborted = self.registration.without_datagrams();
        Ok((BodyHalf::new(self.recv, self.left, self.share), self.send, aborted))
    }

    async fn accept_udp(mut self, answer: Head, flow: &Arc<Flow>) -> Result<DatagramLane, Ended> {
        self.send.write(headers(&answer)).await?;
        // quinn puts DATAGRAM frames in front of STREAM frames: let it send the answer before the first packet of the target is there.
        tokio::task::yield_now().await;
        self.registration.carry(Arc::clone(flow));
        Ok(DatagramLane::new(
            self.send,
            BodyHalf::new(self.recv, self.left, self.share),
            self.datagrams,
            self.registration,
            Arc::clone(flow),
            self.capsule_stall,
        ))
    }

    async fn refuse(mut self, answer: Head) {
        drop(self.registration);
        if !matches!(timeout(ANSWERING, self.send.write(headers(&answer))).await, Ok(Ok(()))) {
            return;
        }
        self.send.finish();
        // Either the client ends, or enough was read: it has had the time to see the answer.
        timeout(DISCARDING, discard(&mut self.recv)).await.unwrap_or_default();
        self.recv.stop(Reset::Nothing);
    }

    async fn abort(mut self, answer: Option<Head>, reset: Reset) {
        if let Some(answer) = answer
            && matches!(timeout(ANSWERING, self.send.write(headers(&answer))).await, Ok(Ok(())))
        {
            sleep(ABORTING).await;
        }
        self.send.reset(reset);
        self.recv.stop(reset);
    }
}

impl ClientRead for BodyHalf {
    async fn read(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
        Self::read(self, into).await
    }

    fn consumed(&mut self, _: usize) {} // quinn gives credit as bytes are read, and no more is read than the target takes

    fn stalled(&mut self, stalled: bool) {
        Self::stalled(self, stalled);
    }

    fn stop(&mut self, reset: Reset) {
        Self::stop(self, reset);
    }
}

impl ClientWrite for SendHalf {
    async fn write(&mut self, mut buffer: BytesMut) -> Result<(), Ended> {
        let header = data_header(buffer.len() - HEADROOM);
        buffer[HEADROOM - DATA_HEADER..HEADROOM].copy_from_slice(&header);
        Self::write(self, buffer.freeze().slice(HEADROOM - DATA_HEADER..)).await
    }

    async fn finish(&mut self) -> Result<(), Ended> {
        Self::finish(self);
        Ok(())
    }

    fn reset(&mut self, reset: Reset) {
        Self::reset(self, reset);
    }

    async fn stopped(&mut self) -> Ended {
        match Self::stopped(self).await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Not a STOP_SENDING: all has been said.
    async fn gone(&mut self) -> Ended {
        Self::lost(self).await
    }
}

fn headers(head: &Head) -> Bytes {
    frame::encode(frame::HEADERS, &qpack::encode(head)).into()
}

async fn discard(recv: &mut RecvHalf) {
    let mut discarded = 0;
    while discarded < DISCARDED {
        match recv.read().await {
            Ok(Some(chunk)) => discarded += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}
