use std::sync::Arc;

use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::{
        Semaphore,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
};

use super::*;

/// What the tunnel did to its client.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Wrote(Vec<u8>),
    Finished,
    Reset(Reset),
    Stopped(Reset),
    Stalled(bool),
}

struct Read {
    script: UnboundedReceiver<Result<Bytes, Ended>>,
    /// Comes after what was read last.
    end: Option<Ended>,
    did: UnboundedSender<Did>,
    consumed: Arc<AtomicU64>,
}

struct Write {
    did: UnboundedSender<Did>,
    /// Writes the client takes.
    room: Arc<Semaphore>,
    /// Bytes of memory handed over, and payload in them.
    held: Arc<[AtomicU64; 2]>,
    stop: Option<oneshot::Receiver<Ended>>,
}

impl ClientRead for Read {
    async fn read(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
        if let Some(end) = self.end.take() {
            return Err(end);
        }
        let Some(first) = self.script.recv().await else { return Ok(false) };
        into.push_back(first?);
        while into.len() < 300 {
            match self.script.try_recv() {
                Ok(Ok(next)) => into.push_back(next),
                Ok(Err(end)) => {
                    self.end = Some(end);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(true)
    }

    fn consumed(&mut self, bytes: usize) {
        self.consumed.fetch_add(bytes as u64, Relaxed);
    }

    fn stalled(&mut self, stalled: bool) {
        self.did.send(Did::Stalled(stalled)).unwrap();
    }

    fn stop(&mut self, reset: Reset) {
        self.did.send(Did::Stopped(reset)).unwrap();
    }
}

impl ClientWrite for Write {
    async fn write(&mut self, buffer: BytesMut) -> Result<(), Ended> {
        self.held[0].fetch_add(buffer.capacity() as u64, Relaxed);
        self.held[1].fetch_add(buffer.len() as u64, Relaxed);
        self.did.send(Did::Wrote(buffer[HEADROOM..].to_vec())).unwrap();
        self.room.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Ended> {
        self.did.send(Did::Finished).unwrap();
        Ok(())
    }

    fn reset(&mut self, reset: Reset) {
        self.did.send(Did::Reset(reset)).unwrap();
    }

    async fn stopped(&mut self) -> Ended {
        match &mut self.stop {
            Some(stop) => stop.await.unwrap(),
            None => std::future::pending().await,
        }
    }

    async fn gone(&mut self) -> Ended {
        self.stopped().await
    }
}

struct Tunnel {
    client: UnboundedSender<Result<Bytes, Ended>>,
    did: UnboundedReceiver<Did>,
    room: Arc<Semaphore>,
    held: Arc<[AtomicU64; 2]>,
    consumed: Arc<AtomicU64>,
    stop: oneshot::Sender<Ended>,
    cut: oneshot::Sender<Ended>,
    target: TcpStream,
    task: tokio::task::JoinHandle<(Ended, Totals)>,
}

async fn tunnel(idle: Duration) -> Tunnel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (target, _) = listener.accept().await.unwrap();
    let ((client, script), (doing, did)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let ((stop, stopped), (cut, cutting)) = (oneshot::channel(), oneshot::channel());
    let (consumed, held, room) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(1 << 20)));
    let read = Read { script, end: None, did: doing.clone(), consumed: Arc::clone(&consumed) };
    let write = Write { did: doing, room: Arc::clone(&room), held: Arc::clone(&held), stop: Some(stopped) };
    let cutting = async { cutting.await.unwrap() };
    let task = tokio::task::spawn_local(run(read, write, upstream, idle, None, cutting));
    Tunnel { client, did, room, held, consumed, stop, cut, target, task }
}

impl Tunnel {
    fn says(&self, bytes: impl Into<Bytes>) {
        self.client.send(Ok(bytes.into())).unwrap();
    }

    fn finishes(&mut self) {
        self.client = mpsc::unbounded_channel().0;
    }

    async fn did(&mut self) -> Option<Did> {
        soon(self.did.recv()).await
    }

    async fn ended(&mut self) -> (Ended, Totals) {
        soon(&mut self.task).await.unwrap()
    }

    /// What was done to the client and not yet asked for, when the tunnel is over.
    fn rest(&mut self) -> Vec<Did> {
        std::iter::from_fn(|| self.did.try_recv().ok()).collect()
    }
}

/// Nothing here takes long: what hangs fails soon.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), event).await.expect("nothing happened for twenty seconds")
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

/// The target breaks its connection off.
fn rst(target: TcpStream) {
    abort(&target);
    drop(target);
}

/// `len` bytes of which no two neighbouring stretches look alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 251 + index) as u8).collect()
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn c75_half_a_close_is_half_a_close() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.says("question");
        tunnel.finishes();
        let mut asked = String::new();
        soon(tunnel.target.read_to_string(&mut asked)).await.unwrap();
        assert_eq!(asked, "question");
        tunnel.target.write_all(b"answer").await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Wrote(b"answer".to_vec())));
        tunnel.target.shutdown().await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Finished));
        let (ended, totals) = tunnel.ended().await;
        assert!(matches!(ended, Ended::Done), "{ended:?}");
        assert_eq!(totals, Totals { bytes_out: 8, bytes_back: 6 });
        assert_eq!(tunnel.rest(), [], "nothing is reset or stopped");
    })
    .await;
}

#[tokio::test]
async fn c75_a_client_that_finishes_at_once_still_reads() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.finishes();
        assert_eq!(soon(tunnel.target.read(&mut [0; 8])).await.unwrap(), 0);
        tunnel.target.write_all(b"banner").await.unwrap();
        tunnel.target.shutdown().await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Wrote(b"banner".to_vec())));
        assert_eq!(tunnel.did().await, Some(Did::Finished));
        assert!(matches!(tunnel.ended().await.0, Ended::Done));
    })
    .await;
}

#[tokio::test]
async fn c75_a_target_that_finishes_still_reads() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.target.shutdown().await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Finished));
        tunnel.says("late");
        tunnel.finishes();
        let mut late = String::new();
        soon(tunnel.target.read_to_string(&mut late)).await.unwrap();
        assert_eq!(late, "late");
        assert!(matches!(tunnel.ended().await.0, Ended::Done));
        assert_eq!(tunnel.rest(), []);
    })
    .await;
}

#[tokio::test]
async fn c76_a_reset_while_downloading_breaks_both_halves() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.target.write_all(b"half of it").await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Wrote(b"half of it".to_vec())));
        rst(tunnel.target);
        assert!(matches!(soon(tunnel.task).await.unwrap().0, Ended::TargetLost(_)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Reset(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Stopped(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, None);
    })
    .await;
}

#[tokio::test]
async fn c76_a_reset_while_uploading_breaks_both_halves() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        // More than all buffers between hold: the tunnel waits for room when the reset comes.
        for _ in 0..64 {
            tunnel.says(vec![7; 1 << 20]);
        }
        soon(tunnel.target.readable()).await.unwrap();
        rst(tunnel.target);
        assert!(matches!(soon(tunnel.task).await.unwrap().0, Ended::TargetLost(_)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Reset(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Stopped(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, None);
    })
    .await;
}

#[tokio::test]
async fn c76_a_reset_after_the_targets_finish_stops_a_silent_client() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.target.shutdown().await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Finished));
        rst(tunnel.target);
        assert!(matches!(soon(tunnel.task).await.unwrap().0, Ended::TargetLost(_)));
        // What was finished cleanly can no longer be reset.
        assert_eq!(tunnel.did.recv().await, Some(Did::Stopped(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, None);
    })
    .await;
}

#[tokio::test]
async fn c76_a_reset_after_the_clients_finish_resets_the_answer() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.says("question");
        tunnel.finishes();
        let mut asked = String::new();
        soon(tunnel.target.read_to_string(&mut asked)).await.unwrap();
        rst(tunnel.target);
        assert!(matches!(soon(tunnel.task).await.unwrap().0, Ended::TargetLost(_)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Reset(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, None);
    })
    .await;
}

#[tokio::test]
async fn c76_a_reset_is_no_finish_for_a_client_that_reads_late() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.room.forget_permits(1 << 20);
        tunnel.target.write_all(b"answer").await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Wrote(b"answer".to_vec())));
        rst(tunnel.target);
        tunnel.room.add_permits(9);
        assert!(matches!(soon(tunnel.task).await.unwrap().0, Ended::TargetLost(_)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Reset(Reset::Connect)));
    })
    .await;
}

#[tokio::test]
async fn c77_a_clients_end_that_is_no_finish_becomes_a_rst() {
    for end in [Ended::ClientReset(0x10c), Ended::ClientLost("timed out".into()), Ended::Misframed { code: 0x105, why: "HEADERS".into() }] {
        local(async {
            let mut tunnel = tunnel(LONG).await;
            tunnel.says("half of it");
            tunnel.client.send(Err(end)).unwrap();
            // A reset takes what was not read yet with it.
            let error = soon(tunnel.target.read_to_end(&mut Vec::new())).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            tunnel.ended().await;
            assert_eq!(tunnel.rest(), [Did::Reset(Reset::Cancelled), Did::Stopped(Reset::Cancelled)]);
        })
        .await;
    }
}

#[tokio::test]
async fn c77_a_client_that_stops_reading_ends_the_tunnel() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        let (stop, _) = oneshot::channel();
        std::mem::replace(&mut tunnel.stop, stop).send(Ended::ClientStopped(0x10c)).unwrap();
        assert!(matches!(tunnel.ended().await.0, Ended::ClientStopped(0x10c)));
        let error = soon(tunnel.target.read(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn c77_a_client_that_goes_while_a_target_that_finished_does_not_read_ends_the_tunnel() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.target.shutdown().await.unwrap();
        assert_eq!(tunnel.did().await, Some(Did::Finished));
        tunnel.says(vec![7; 40 << 20]);
        assert_eq!(tunnel.did().await, Some(Did::Stalled(true)));
        let (stop, _) = oneshot::channel();
        std::mem::replace(&mut tunnel.stop, stop).send(Ended::ClientLost("timed out".into())).unwrap();
        assert!(matches!(tunnel.ended().await.0, Ended::ClientLost(_)));
        let error = soon(tunnel.target.read_to_end(&mut Vec::new())).await;
        soon(tunnel.target.ready(Interest::ERROR)).await.unwrap();
        assert!(error.is_err() || tunnel.target.take_error().unwrap().is_some(), "a RST, no end");
    })
    .await;
}

#[tokio::test]
async fn c78_a_target_that_does_not_read_is_not_overfed() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        let sent = pattern(40 << 20);
        // Chunks of many lengths, so that writes end within them.
        let mut rest = Bytes::from(sent.clone());
        for len in (1..).map(|index: usize| index * 7919 % 40_000) {
            if rest.is_empty() {
                break;
            }
            tunnel.says(rest.split_to(len.min(rest.len())));
        }
        let mut got = vec![0; 1 << 20];
        soon(tunnel.target.read_exact(&mut got)).await.unwrap();
        // What was given back as credit is what the kernel took, not what was offered.
        let consumed = tunnel.consumed.load(Relaxed);
        assert!(consumed < 32 << 20, "{consumed}");
        tunnel.finishes();
        soon(tunnel.target.read_to_end(&mut got)).await.unwrap();
        assert!(got == sent, "all bytes in order");
        assert_eq!(tunnel.consumed.load(Relaxed), 40 << 20);
    })
    .await;
}

#[tokio::test]
async fn c78_a_client_that_does_not_read_holds_one_buffer() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.room.forget_permits(1 << 20);
        let sent = pattern(16 << 20);
        let mut target = tunnel.target;
        let writing = tokio::task::spawn_local({
            let sent = sent.clone();
            async move {
                target.write_all(&sent).await.unwrap();
                target.shutdown().await.unwrap();
                target
            }
        });
        let Some(Did::Wrote(mut got)) = soon(tunnel.did.recv()).await else { panic!("nothing was written") };
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(tunnel.did.try_recv().is_err(), "a second buffer while the first one waits");
        assert!(!writing.is_finished());
        tunnel.room.add_permits(1 << 16);
        while let Some(Did::Wrote(more)) = soon(tunnel.did.recv()).await {
            assert!(more.len() <= 64 * 1024);
            got.extend(more);
        }
        assert!(got == sent, "all bytes in order");
    })
    .await;
}

#[tokio::test]
async fn a_small_payload_holds_little_memory() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        for _ in 0..100 {
            tunnel.target.write_all(b"x").await.unwrap();
            assert_eq!(tunnel.did().await, Some(Did::Wrote(b"x".to_vec())));
        }
        let [memory, payload] = tunnel.held.each_ref().map(|bytes| bytes.load(Relaxed));
        assert!(memory <= 4 * payload, "{memory} bytes for {payload}");
    })
    .await;
}

#[tokio::test]
async fn silence_ends_the_tunnel_and_is_no_finish() {
    local(async {
        let mut tunnel = tunnel(Duration::from_millis(50)).await;
        assert!(matches!(tunnel.ended().await.0, Ended::Idle));
        assert_eq!(tunnel.rest(), [Did::Reset(Reset::Cancelled), Did::Stopped(Reset::Cancelled)]);
        let error = soon(tunnel.target.read(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn a_cut_ends_the_tunnel() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        let (cut, _) = oneshot::channel();
        std::mem::replace(&mut tunnel.cut, cut).send(Ended::Drained).unwrap();
        assert!(matches!(tunnel.ended().await.0, Ended::Drained));
        assert_eq!(tunnel.rest(), [Did::Reset(Reset::Cancelled), Did::Stopped(Reset::Cancelled)]);
    })
    .await;
}

#[test]
fn a_partial_write_takes_what_it_wrote() {
    let mut chunks = VecDeque::from([Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"de"), Bytes::from_static(b"f")]);
    take(&mut chunks, 4);
    assert_eq!(chunks, [Bytes::from_static(b"e"), Bytes::from_static(b"f")]);
    take(&mut chunks, 2);
    assert!(chunks.is_empty());
    chunks.push_back(Bytes::new());
    take(&mut chunks, 0);
    assert!(chunks.is_empty());
}
