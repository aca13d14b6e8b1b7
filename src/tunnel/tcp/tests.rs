use std::sync::{Arc, Mutex};

use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};

use super::*;

/// What the tunnel did to its client.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Wrote(Vec<u8>),
    Finished,
    Reset(Reset),
    Stopped(Reset),
}

struct Read(UnboundedReceiver<Result<Bytes, Ended>>, UnboundedSender<Did>, Arc<Mutex<usize>>);

struct Write(UnboundedSender<Did>);

impl ClientRead for Read {
    async fn read(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
        match self.0.recv().await {
            Some(Ok(bytes)) => {
                into.push_back(bytes);
                Ok(true)
            }
            Some(Err(ended)) => Err(ended),
            None => Ok(false),
        }
    }

    fn consumed(&mut self, bytes: usize) {
        *self.2.lock().unwrap() += bytes;
    }

    fn stop(&mut self, reset: Reset) {
        self.1.send(Did::Stopped(reset)).unwrap();
    }
}

impl ClientWrite for Write {
    async fn write(&mut self, buffer: BytesMut) -> Result<(), Ended> {
        self.0.send(Did::Wrote(buffer[HEADROOM..].to_vec())).unwrap();
        Ok(())
    }

    fn finish(&mut self) {
        self.0.send(Did::Finished).unwrap();
    }

    fn reset(&mut self, reset: Reset) {
        self.0.send(Did::Reset(reset)).unwrap();
    }

    async fn stopped(&mut self) -> Ended {
        std::future::pending().await
    }
}

struct Tunnel {
    client: Option<UnboundedSender<Result<Bytes, Ended>>>,
    did: UnboundedReceiver<Did>,
    consumed: Arc<Mutex<usize>>,
    target: TcpStream,
    task: tokio::task::JoinHandle<(Ended, Totals)>,
}

async fn tunnel(idle: Duration) -> Tunnel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (target, _) = listener.accept().await.unwrap();
    let (client, out) = mpsc::unbounded_channel();
    let (doing, did) = mpsc::unbounded_channel();
    let consumed = Arc::default();
    let read = Read(out, doing.clone(), Arc::clone(&consumed));
    let task = tokio::task::spawn_local(run(read, Write(doing), upstream, idle, std::future::pending()));
    Tunnel { client: Some(client), did, consumed, target, task }
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn c75_half_a_close_is_half_a_close() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.client.as_ref().unwrap().send(Ok(Bytes::from_static(b"question"))).unwrap();
        tunnel.client = None;
        let mut asked = String::new();
        tunnel.target.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        tunnel.target.write_all(b"answer").await.unwrap();
        assert_eq!(tunnel.did.recv().await, Some(Did::Wrote(b"answer".to_vec())));
        drop(tunnel.target);
        assert_eq!(tunnel.did.recv().await, Some(Did::Finished));
        let (ended, totals) = tunnel.task.await.unwrap();
        assert!(matches!(ended, Ended::Done));
        assert_eq!(totals, Totals { bytes_out: 8, bytes_back: 6 });
        assert_eq!(tunnel.did.recv().await, None, "nothing is reset or stopped");
    })
    .await;
}

#[tokio::test]
async fn c75_a_target_that_finishes_still_reads() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.target.shutdown().await.unwrap();
        assert_eq!(tunnel.did.recv().await, Some(Did::Finished));
        tunnel.client.as_ref().unwrap().send(Ok(Bytes::from_static(b"late"))).unwrap();
        tunnel.client = None;
        let mut late = String::new();
        tunnel.target.read_to_string(&mut late).await.unwrap();
        assert_eq!(late, "late");
        assert!(matches!(tunnel.task.await.unwrap().0, Ended::Done));
    })
    .await;
}

#[tokio::test]
async fn c76_a_targets_reset_breaks_both_halves() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        abort(&tunnel.target);
        drop(tunnel.target);
        assert_eq!(tunnel.did.recv().await, Some(Did::Reset(Reset::Connect)));
        assert_eq!(tunnel.did.recv().await, Some(Did::Stopped(Reset::Connect)));
        assert!(matches!(tunnel.task.await.unwrap().0, Ended::TargetLost(_)));
    })
    .await;
}

#[tokio::test]
async fn c77_a_clients_reset_becomes_a_rst() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        tunnel.client.as_ref().unwrap().send(Err(Ended::ClientReset(0x10c))).unwrap();
        let error = tunnel.target.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(matches!(tunnel.task.await.unwrap().0, Ended::ClientReset(0x10c)));
    })
    .await;
}

#[tokio::test]
async fn c78_a_target_that_does_not_read_is_not_overfed() {
    local(async {
        let mut tunnel = tunnel(LONG).await;
        let chunk = Bytes::from(vec![7; 1 << 20]);
        for _ in 0..64 {
            tunnel.client.as_ref().unwrap().send(Ok(chunk.clone())).unwrap();
        }
        tunnel.client = None;
        let mut first = vec![0; 1 << 20];
        tunnel.target.read_exact(&mut first).await.unwrap();
        // What was given back as credit is what the kernel took, not what was offered.
        assert!(*tunnel.consumed.lock().unwrap() < 32 << 20, "{}", tunnel.consumed.lock().unwrap());
        let mut rest = Vec::new();
        tunnel.target.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), 63 << 20);
        assert!(rest.iter().all(|byte| *byte == 7));
        assert_eq!(*tunnel.consumed.lock().unwrap(), 64 << 20);
    })
    .await;
}

#[tokio::test]
async fn silence_ends_the_tunnel() {
    local(async {
        let mut tunnel = tunnel(Duration::from_millis(50)).await;
        assert!(matches!((&mut tunnel.task).await.unwrap().0, Ended::Idle));
        assert_eq!(tunnel.did.recv().await, Some(Did::Reset(Reset::Cancelled)));
    })
    .await;
}

#[test]
fn a_partial_write_takes_what_it_wrote() {
    let mut chunks = VecDeque::from([Bytes::from_static(b"abc"), Bytes::from_static(b"de"), Bytes::from_static(b"f")]);
    take(&mut chunks, 4);
    assert_eq!(chunks, [Bytes::from_static(b"e"), Bytes::from_static(b"f")]);
    take(&mut chunks, 2);
    assert!(chunks.is_empty());
}
