use std::{net::UdpSocket, sync::Arc};

use tokio::time::{Instant, advance, pause};

use super::*;
use crate::{
    metrics::Metrics,
    proto::{
        capsule::{Capsule, Capsules},
        datagram::Datagram,
    },
};

const STALL: Duration = Duration::from_secs(30);

/// A client that gives credit by the byte, and its tunnel.
struct Client {
    queue: CapsuleQueue,
    flow: Flow,
    metrics: Arc<Metrics>,
    credit: usize,
    taken: Vec<u8>,
}

impl Client {
    /// Framed by two bytes, so that a missing frame shows.
    fn new(credit: usize) -> Self {
        let metrics = Arc::default();
        let flow = Flow::new(UdpSocket::bind("127.0.0.1:0").unwrap(), 1, Arc::clone(&metrics), Arc::default()).unwrap();
        let framing = |length: usize, out: &mut Vec<u8>| out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        Self { queue: CapsuleQueue::new(framing, STALL), flow, metrics, credit, taken: Vec::new() }
    }

    fn send(&mut self, payloads: &[&[u8]]) {
        let Self { queue, flow, credit, taken, .. } = self;
        queue.send(payloads.iter().copied(), flow, |_, bytes| take(credit, taken, bytes));
    }

    fn flush(&mut self, credit: usize) -> Poll<Result<(), Ended>> {
        self.credit += credit;
        let Self { queue, flow, credit, taken, .. } = self;
        queue.poll_flush(&mut Context::from_waker(Waker::noop()), flow, |_, bytes| take(credit, taken, bytes))
    }

    /// Carried and dropped so far.
    fn counts(&self) -> (u64, u64) {
        let (totals, sum) = (self.flow.totals(), self.metrics.snapshot());
        assert_eq!((sum.packets[1], sum.lost(Way::Back, Loss::Unread)), (totals.packets_back, totals.dropped));
        (totals.packets_back, totals.dropped)
    }

    /// The payloads of the whole capsules that were taken.
    fn payloads(&self) -> Vec<Vec<u8>> {
        let (mut rest, mut found) = (&self.taken[..], Vec::new());
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let Some((capsule, behind)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
            let mut capsule = Bytes::copy_from_slice(capsule);
            let Ok(Some(Capsule::Datagram(value))) = Capsules::default().next(&mut capsule) else { panic!("no capsule") };
            let Datagram::Udp(payload) = Datagram::parse(value) else { panic!("no payload") };
            found.push(payload.to_vec());
            rest = behind;
        }
        found
    }
}

fn take(credit: &mut usize, taken: &mut Vec<u8>, bytes: &[u8]) -> Poll<Result<usize, Ended>> {
    let most = bytes.len().min(*credit);
    if most == 0 {
        return Poll::Pending;
    }
    *credit -= most;
    taken.extend_from_slice(&bytes[..most]);
    Poll::Ready(Ok(most))
}

/// Two bytes of framing, three of capsule.
const FRONT: usize = 5;

#[tokio::test]
async fn a_client_that_reads_gets_all_in_order_whatever_it_takes_at_once() {
    let sent: Vec<Vec<u8>> = (0..40_u8).map(|number| vec![number; usize::from(number)]).collect();
    for step in [1, 4, 5, 6, 100, 10_000] {
        let mut client = Client::new(0);
        client.send(&sent.iter().map(Vec::as_slice).collect::<Vec<_>>());
        while client.flush(step).is_pending() {}
        assert_eq!(client.payloads(), sent, "{step} bytes at once");
        assert_eq!((client.counts(), client.queue.is_inside()), ((40, 0), false), "{step} bytes at once");
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_is_no_loss_while_the_client_reads() {
    let mut client = Client::new(usize::MAX);
    let large = vec![7; 60_000];
    client.send(&[&large, &large, b"", &large, b"last"]);
    assert_eq!(client.payloads(), [&large[..], &large, b"", &large, b"last"]);
    assert_eq!(client.counts(), (5, 0));
}

#[tokio::test]
async fn c65_a_capsule_counts_once_its_last_byte_is_taken() {
    let mut client = Client::new(FRONT + 10 + 1);
    client.send(&[&[1; 10], &[2; 10]]);
    assert_eq!((client.counts(), client.queue.is_inside()), ((1, 0), true));
    assert!(client.flush(FRONT + 8).is_pending());
    assert_eq!((client.counts(), client.queue.is_inside()), ((1, 0), true));
    assert!(client.flush(1).is_ready());
    assert_eq!((client.counts(), client.queue.is_inside()), ((2, 0), false));
}

#[tokio::test]
async fn c65_whole_capsules_are_dropped_and_counted_the_oldest_first() {
    let mut client = Client::new(1);
    client.send(&[b"begun"]);
    for number in 0..200_u8 {
        client.send(&[&[number; 1000]]);
    }
    let kept = QUEUED / (1000 + 6); // a length above 63 takes two bytes
    assert_eq!(client.counts(), (0, 200 - kept as u64));

    assert!(client.flush(usize::MAX - 1).is_ready());
    let payloads = client.payloads();
    assert_eq!((payloads[0].as_slice(), payloads.len()), (&b"begun"[..], 1 + kept), "what was begun is finished first");
    assert_eq!(payloads[1..].iter().map(|payload| payload[0]).collect::<Vec<_>>(), (200 - kept as u8..200).collect::<Vec<_>>());
    assert_eq!(client.counts(), (1 + kept as u64, 200 - kept as u64));
}

#[tokio::test]
async fn c65_a_capsule_larger_than_the_queue_still_goes() {
    let mut client = Client::new(usize::MAX);
    let largest = vec![1; 65_500];
    client.send(&[&largest, b"next"]);
    assert_eq!(client.payloads(), [&largest[..], b"next"]);
}

#[tokio::test]
async fn c65_what_is_left_at_the_end_is_counted_as_dropped() {
    let mut client = Client::new(1);
    client.send(&[b"begun", b"whole", b"whole"]);
    client.queue.abandon(&client.flow);
    assert_eq!(client.counts(), (0, 3));
    assert!(client.flush(100).is_ready());
    assert_eq!(client.taken.len(), 1, "nothing of it goes out any more");
}

#[tokio::test]
async fn c65_half_a_capsule_is_waited_for_thirty_seconds() {
    pause();
    let mut client = Client::new(1);
    client.send(&[b"begun", b"whole"]);
    let start = Instant::now();
    let stalled = {
        let Client { queue, flow, .. } = &mut client;
        std::future::poll_fn(|cx| queue.poll_flush(cx, flow, |_, _| Poll::Pending)).await
    };
    assert!(matches!(stalled, Err(Ended::Stalled)), "{stalled:?}");
    assert_eq!(start.elapsed().as_secs(), STALL.as_secs());
}

#[tokio::test]
async fn c65_a_byte_now_and_then_gains_no_time_and_a_whole_capsule_does() {
    pause();
    let mut client = Client::new(1);
    client.send(&[b"begun", b"whole"]);
    advance(STALL / 2).await;
    assert!(client.flush(1).is_pending(), "still patient");
    advance(STALL / 2 + Duration::from_secs(1)).await;
    assert!(matches!(client.flush(1), Poll::Ready(Err(Ended::Stalled))));

    let mut client = Client::new(1);
    client.send(&[b"begun", b"whole"]);
    for _ in 0..2 {
        advance(Duration::from_secs(29)).await;
        // The rest of one and the first byte of the next.
        assert!(client.flush(FRONT + 5).is_pending() || client.counts() == (2, 0));
    }
    assert_eq!(client.counts(), (2, 0));
}

#[tokio::test]
async fn c65_between_two_capsules_a_client_may_stop_for_ever() {
    pause();
    let mut client = Client::new(FRONT + 5);
    client.send(&[b"taken", b"whole"]);
    for _ in 0..10 {
        advance(STALL).await;
        assert!(client.flush(0).is_pending());
    }
    assert_eq!((client.counts(), client.queue.is_inside()), ((1, 0), false));
}
