//! A side that does not read holds up the other one, and the relay keeps little (C-78).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use masque_relay::probe::Http;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Duration, interval},
};

use crate::support::{Relay, on_versions, tcp::TcpTarget, tunnels::pair, until};

/// Bytes each way: twice what the windows and the kernel's buffers hold on the way.
const TOTAL: usize = 28 << 20;

/// Bytes on the way at most while nobody reads: two windows of 8 MiB, the kernel's buffers of a TCP connection and the relay's own.
const HELD: usize = 24 << 20;

on_versions!(c78_a_client_that_does_not_read_holds_up_its_target: h1 h2 h3);

async fn c78_a_client_that_does_not_read_holds_up_its_target(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (tunnel, stream) = pair(&client, &target).await;
    let ((_send, mut recv), (read, mut write)) = (tunnel.split(), stream.into_split());
    let (pattern, sent) = (Pattern::new(), AtomicUsize::new(0));
    let reading = async {
        let held = stalled(&sent, http).await;

        assert!(held < HELD, "{held} bytes were taken and not read");
        let mut got = 0;
        while let Some(bytes) = recv.recv().await.unwrap() {
            pattern.check(&bytes, got);
            got += bytes.len();
        }
        got
    };
    let writing = async {
        for chunk in pattern.chunks() {
            write.write_all(&chunk).await.unwrap();
            sent.fetch_add(chunk.len(), Relaxed);
        }
        write.shutdown().await.unwrap();
    };
    let (got, ()) = tokio::join!(reading, writing);
    assert_eq!(got, TOTAL);
    drop((read, write));
    relay.finish().await;
}

on_versions!(c78_a_target_that_does_not_read_holds_up_its_client: h1 h2 h3);

async fn c78_a_target_that_does_not_read_holds_up_its_client(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (tunnel, stream) = pair(&client, &target).await;
    let ((mut send, _recv), (mut read, write)) = (tunnel.split(), stream.into_split());
    let (pattern, sent) = (Pattern::new(), AtomicUsize::new(0));
    let reading = async {
        let held = stalled(&sent, http).await;

        assert!(held < HELD, "{held} bytes were taken and not read");
        let (mut got, mut buffer) = (0, vec![0; LONGEST]);
        loop {
            let count = read.read(&mut buffer).await.unwrap();
            if count == 0 {
                return got;
            }
            pattern.check(&buffer[..count], got);
            got += count;
        }
    };
    let writing = async {
        for chunk in pattern.chunks() {
            let count = chunk.len();
            send.send(chunk).await.unwrap();
            sent.fetch_add(count, Relaxed);
        }
        send.finish().unwrap();
    };
    let (got, ()) = tokio::join!(reading, writing);
    assert_eq!(got, TOTAL);
    drop((read, write));
    relay.finish().await;
}

/// What is sent: it has a period that no buffer's size divides, so that bytes out of place show.
struct Pattern(Bytes);

impl Pattern {
    fn new() -> Self {
        Self((0..LONGEST + PERIOD).map(|place| (place % PERIOD) as u8).collect::<Vec<_>>().into())
    }

    /// All of it, in pieces.
    fn chunks(&self) -> impl Iterator<Item = Bytes> {
        (0..TOTAL).step_by(CHUNK).map(|start| self.0.slice(start % PERIOD..).slice(..CHUNK))
    }

    /// These are the bytes at this place.
    fn check(&self, bytes: &[u8], start: usize) {
        for (piece, start) in bytes.chunks(LONGEST).zip((start..).step_by(LONGEST)) {
            assert!(piece == &self.0[start % PERIOD..][..piece.len()], "bytes are out of order behind {start}");
        }
    }
}

const PERIOD: usize = 251;

/// Bytes written at once.
const CHUNK: usize = 64 << 10;

/// Bytes looked at at once.
const LONGEST: usize = 256 << 10;

/// Waits until nothing more is taken, and gives what was: enough for a fast and long path. (A stall that is seen too early makes the test weaker,
/// never wrong.)
async fn stalled(sent: &AtomicUsize, http: Http) -> usize {
    // The window of HTTP/1.1 is TCP's, which the kernel opens as it is read.
    let enough = if http == Http::H1 { 1 << 20 } else { 8 << 20 };
    until("8 MiB to be taken, 100 ms at 670 Mbit/s", || sent.load(Relaxed), |sent| *sent >= enough).await;
    let mut ticks = interval(Duration::from_millis(200));
    let mut before = 0;
    loop {
        ticks.tick().await;
        let now = sent.load(Relaxed);
        if now == before {
            return now;
        }
        before = now;
    }
}
