//! The client's side of a UDP tunnel as capsules on the request stream (RFC 9297 §3.5): all of it on HTTP/2 and HTTP/1.1, on HTTP/3 what does not go
//! as DATAGRAM frames.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    ended::{Ended, Reset},
    metrics::{Loss, Way},
    proto::{
        capsule::{Capsule, CapsuleError, Capsules},
        datagram::Datagram,
    },
    session::requests::LAST_WORDS,
    sys::Received,
    tunnel::{
        ClientRead, ClientWrite, Lane,
        udp::{CapsuleQueue, Flow, Framing},
    },
};

/// A stream to the client that takes what it has room for.
pub(super) trait PollWrite: ClientWrite {
    /// Sends as much of `bytes` as there is room for now.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Ended>>;

    /// Sends on what was taken and is still held, where the version holds something.
    fn poll_sent(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        Poll::Ready(Ok(()))
    }
}

/// No framing: the version has its own, or none.
pub(super) fn bare(_: usize, _: &mut Vec<u8>) {}

/// One UDP tunnel over the two halves of a stream.
pub(super) struct CapsuleLane<R, W> {
    read: R,
    write: W,
    capsules: Capsules,
    queue: CapsuleQueue,
    flow: Arc<Flow>,
}

impl<R: ClientRead, W: PollWrite> CapsuleLane<R, W> {
    /// `framing` goes in front of each capsule; `stall` is how long one may stay half written.
    pub(super) fn new(read: R, write: W, framing: Framing, flow: Arc<Flow>, stall: Duration) -> Self {
        Self { read, write, capsules: Capsules::default(), queue: CapsuleQueue::new(framing, stall), flow }
    }
}

impl<R: ClientRead, W: PollWrite> Lane for CapsuleLane<R, W> {
    async fn recv(&mut self, into: &mut Vec<Bytes>) -> Result<(), Ended> {
        let mut chunks = VecDeque::new();
        let Self { read, write, queue, flow, .. } = self;
        let more = tokio::select! {
            biased;
            ended = flush(queue, flow, write) => return Err(ended),
            read = read.read(&mut chunks) => read?,
        };
        self.read.consumed(chunks.iter().map(Bytes::len).sum());
        decode(&mut self.capsules, chunks, &self.flow, into)?;
        if more {
            return Ok(());
        }
        self.capsules.end().map_err(capsule_ended)?;
        Err(Ended::ClientFinished)
    }

    fn send(&mut self, packets: &Received<'_>, flow: &Flow) {
        let write = &mut self.write;
        self.queue.send(flow.kept(packets), flow, |cx, bytes| write.poll_write(cx, bytes));
        // An error shows again where it can be told, in `recv`, which also sends on.
        let (Poll::Ready(_) | Poll::Pending) = write.poll_sent(&mut Context::from_waker(Waker::noop()));
    }

    async fn end(mut self, ended: &Ended) {
        let inside = self.queue.is_inside();
        self.queue.abandon(&self.flow);
        match ended.reset() {
            Some(reset) => {
                self.write.reset(reset);
                self.read.stop(reset);
            }
            // Never a clean end within a capsule.
            None if inside => self.write.reset(Reset::Cancelled),
            // A client that is gone needs no end, and one that does not read waits for none.
            None => match timeout(LAST_WORDS, self.write.finish()).await {
                Ok(Ok(()) | Err(_)) => {}
                Err(_) => self.write.reset(Reset::Cancelled),
            },
        }
        self.read.stop(Reset::Nothing);
    }
}

/// Sends on what waits, and resolves only when that is no use any more. Cancel safe.
async fn flush(queue: &mut CapsuleQueue, flow: &Flow, write: &mut impl PollWrite) -> Ended {
    poll_fn(|cx| {
        let sent = match ready!(queue.poll_flush(cx, flow, |cx, bytes| write.poll_write(cx, bytes))) {
            Ok(()) => ready!(write.poll_sent(cx)),
            Err(ended) => Err(ended),
        };
        match sent {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    })
    .await
}

/// Takes the UDP payloads out of what came on the stream.
fn decode(capsules: &mut Capsules, chunks: VecDeque<Bytes>, flow: &Flow, into: &mut Vec<Bytes>) -> Result<(), Ended> {
    for mut chunk in chunks {
        while let Some(capsule) = capsules.next(&mut chunk).map_err(capsule_ended)? {
            // Unknown capsules are skipped (RFC 9297 §3.2).
            let Capsule::Datagram(datagram) = capsule else { continue };
            match Datagram::parse(datagram) {
                Datagram::Udp(payload) => into.push(payload),
                Datagram::UnknownContext(_) => flow.dropped(Way::Out, Loss::UnknownContext, 1),
                Datagram::Truncated => return Err(Ended::Malformed("a DATAGRAM capsule without a context ID")),
                Datagram::TooLong => return Err(Ended::PayloadTooLong),
            }
        }
    }
    Ok(())
}

fn capsule_ended(error: CapsuleError) -> Ended {
    match error {
        CapsuleError::TooLong(_) => Ended::PayloadTooLong,
        CapsuleError::Truncated => Ended::Malformed("the stream ended inside a capsule"),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::UdpSocket, sync::Mutex};

    use bytes::BytesMut;

    use super::*;
    use crate::metrics::Metrics;

    /// A client that neither sends nor reads; tells how the stream was reset.
    #[derive(Clone, Default)]
    struct Deaf(Arc<Mutex<Option<Reset>>>);

    impl ClientRead for Deaf {
        async fn read(&mut self, _: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
            pending().await
        }

        fn consumed(&mut self, _: usize) {}

        fn stalled(&mut self, _: bool) {}

        fn stop(&mut self, _: Reset) {}
    }

    impl ClientWrite for Deaf {
        async fn write(&mut self, _: BytesMut) -> Result<(), Ended> {
            pending().await
        }

        async fn finish(&mut self) -> Result<(), Ended> {
            pending().await
        }

        fn reset(&mut self, reset: Reset) {
            *self.0.lock().unwrap() = Some(reset);
        }

        async fn stopped(&mut self) -> Ended {
            pending().await
        }

        async fn gone(&mut self) -> Ended {
            pending().await
        }
    }

    impl PollWrite for Deaf {
        fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<usize, Ended>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_cannot_hold_the_end() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let flow = Arc::new(Flow::new(socket, 1, Arc::new(Metrics::default()), Arc::default()).unwrap());
        let client = Deaf::default();
        let lane = CapsuleLane::new(client.clone(), client.clone(), bare, flow, Duration::from_secs(30));
        lane.end(&Ended::Idle).await;
        assert_eq!(*client.0.lock().unwrap(), Some(Reset::Cancelled));
    }
}
