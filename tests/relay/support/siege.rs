//! A relay of its own process under attack: how much memory it ever held, and whether a client that behaves is served meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use masque_relay::{
    probe::{Options, SendHalf, StreamEnd, TcpTunnel, UdpTunnel},
    proto::codes::h3,
};
use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::interval};

use super::{
    Client, Closers,
    path::{Conditions, Path},
    process::RelayProcess,
    tcp::{TcpEcho, TcpTarget},
    udp::UdpTarget,
};

/// The neighbour's tunnels, a socket each.
const NEIGHBOUR: usize = 2;

/// A relay under attack, and the client beside.
pub(crate) struct Siege {
    relay: RelayProcess,
    attackers: Vec<Arc<Client>>,
    /// RSS before the attack, KiB.
    before: u64,
    idle_descriptors: usize,
    neighbour: Client,
    tcp: TcpTunnel,
    udp: UdpTunnel,
    echo: TcpEcho,
    _udp_echo: UdpTarget,
}

impl Siege {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with further lines of configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        let relay = RelayProcess::start(&format!("timeouts.head = \"1m\"\ntimeouts.authenticate = \"1m\"\n{more}"));
        let idle_descriptors = relay.descriptors();
        let (echo, udp_echo) = (TcpEcho::start().await, UdpTarget::echo().await);
        let neighbour = relay.client().await;
        let tcp = neighbour.connect_tcp(&echo.address().to_string()).await.unwrap();
        let udp = neighbour.connect_udp("127.0.0.1", udp_echo.address().port()).await.unwrap();
        let before = relay.memory().rss;
        Self { relay, attackers: Vec::new(), before, idle_descriptors, neighbour, tcp, udp, echo, _udp_echo: udp_echo }
    }

    /// A connection of an attacker's.
    pub(crate) async fn attacker(&mut self, change: impl FnOnce(&mut Options)) -> Arc<Client> {
        let mut options = self.relay.options();
        change(&mut options);
        let client = Arc::new(Client::open(options, Closers::default()).await.expect("the relay takes a connection"));
        self.attackers.push(Arc::clone(&client));
        client
    }

    /// Open tunnels of an attacker's, and their targets' ends.
    pub(crate) async fn tunnels(&self, client: &Client, count: usize) -> Vec<(TcpTunnel, TcpStream)> {
        let target = TcpTarget::start().await;
        let authority = target.address().to_string();
        let mut tunnels = Vec::new();
        for _ in 0..count {
            let (tunnel, stream) = tokio::join!(client.connect_tcp(&authority), target.accept());
            // So that it shows soon when the target does not read.
            SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
            tunnels.push((tunnel.unwrap(), stream));
        }
        tunnels
    }

    /// A TCP target that sends everything back.
    pub(crate) fn target(&self) -> String {
        self.echo.address().to_string()
    }

    /// A path to the relay that can be made worse.
    pub(crate) async fn path(&self) -> Path {
        Path::start(self.relay.address(), 1, Conditions::default(), Conditions::default()).await.unwrap()
    }

    /// The end of the attack: the neighbour is served, and the relay has never held more than `most` MiB above what it held before. Gives what it held,
    /// KiB.
    pub(crate) async fn lifted(mut self, attack: impl Sized, most: u64) -> u64 {
        self.beaten_off(attack).await;
        let peak = self.relay.memory().peak;
        drop((self.tcp, self.udp, self.neighbour));
        self.relay.descriptors_back_at(self.idle_descriptors).await;
        let (before, after) = (self.before, self.relay.memory().rss);
        println!("RSS of the relay's process: {before} KiB before, {peak} KiB at most (+{} KiB), {after} KiB after", peak - before);
        assert!(peak - before <= most << 10, "{} KiB more than before the attack: {most} MiB were allowed", peak - before);
        self.relay.finish().await;
        peak - before
    }

    /// The neighbour is served under the attack and after it, and nothing is held for the attackers any more.
    pub(crate) async fn beaten_off(&mut self, attack: impl Sized) {
        self.serves_the_neighbour().await;
        drop(attack);
        for attacker in self.attackers.drain(..) {
            attacker.close(h3::NO_ERROR, b"");
        }
        self.serves_the_neighbour().await;
        self.relay.descriptors_back_at(self.idle_descriptors + NEIGHBOUR).await;
    }

    async fn serves_the_neighbour(&mut self) {
        self.tcp.send(Bytes::from_static(b"tcp")).await.unwrap();
        assert_eq!(self.tcp.recv().await.unwrap().unwrap(), "tcp");
        // On a socket of the relay's that an attack has filled a datagram may be lost: a client would send it again.
        let mut again = interval(Duration::from_millis(100));
        let packet = loop {
            tokio::select! {
                packet = self.udp.recv() => break packet.unwrap(),
                _ = again.tick() => self.udp.send(b"udp").unwrap(),
            }
        };
        assert_eq!(packet.payload, "udp");
        let mut new = self.neighbour.connect_tcp(&self.target()).await.unwrap();
        new.finish().unwrap();
        assert_eq!(new.ended().await, StreamEnd::Finished);
    }
}

/// Streams that send all they may, and go on holding what they have.
#[derive(Default)]
pub(crate) struct Flood {
    sent: Arc<AtomicU64>,
    streams: JoinSet<()>,
}

impl Flood {
    /// What counts as sent, for what is not sent by this.
    pub(crate) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// Opens a stream as soon as there is room for it; sends `first`, then `pattern` again and again for `most` bytes at least.
    pub(crate) fn pour(&mut self, client: &Arc<Client>, first: Bytes, pattern: Bytes, most: usize) {
        let (client, sent) = (Arc::clone(client), Arc::clone(&self.sent));
        self.streams.spawn(async move {
            let Ok(mut exchange) = client.exchange().await else { return };
            send_all(&mut exchange.send, first, pattern, most, &sent).await;
            std::future::pending::<()>().await;
        });
    }

    /// The same in an open tunnel.
    pub(crate) fn pour_into<T: Send + 'static>(
        &mut self,
        mut tunnel: T,
        half: fn(&mut T) -> &mut SendHalf,
        first: Bytes,
        pattern: Bytes,
        most: usize,
    ) {
        let sent = Arc::clone(&self.sent);
        self.streams.spawn(async move {
            send_all(half(&mut tunnel), first, pattern, most, &sent).await;
            std::future::pending::<()>().await;
        });
    }

    /// The same from a target, whatever happens to the tunnel.
    pub(crate) fn gush(&mut self, tunnel: TcpTunnel, mut target: TcpStream) {
        let sent = Arc::clone(&self.sent);
        self.streams.spawn(async move {
            while let Ok(length) = target.write(&[0; 4096]).await {
                sent.fetch_add(length as u64, Relaxed);
            }
            drop(tunnel);
        });
    }

    /// Waits until nothing has moved for half a second: it is held back everywhere, or over.
    pub(crate) async fn at_rest(&self) {
        self.at_rest_for(10).await;
    }

    /// The same for so many twentieths of a second: on a path that loses packets it may pause in between.
    pub(crate) async fn at_rest_for(&self, twentieths: u32) {
        let (mut last, mut still) = (0, 0);
        let mut ticks = interval(Duration::from_millis(50));
        while still < twentieths {
            ticks.tick().await;
            let now = self.sent.load(Relaxed);
            still = if now == last { still + 1 } else { 0 };
            last = now;
        }
        println!("{} KiB were sent", last >> 10);
    }
}

/// Sends until all is sent, or the relay has had enough: it refused, or took it for an attack.
async fn send_all(half: &mut SendHalf, first: Bytes, pattern: Bytes, most: usize, sent: &AtomicU64) {
    let patterns = most.div_ceil(pattern.len());
    for chunk in std::iter::once(first).chain(std::iter::repeat_n(pattern, patterns)) {
        let length = chunk.len() as u64;
        if half.send_raw(chunk).await.is_err() {
            return;
        }
        sent.fetch_add(length, Relaxed);
    }
}
