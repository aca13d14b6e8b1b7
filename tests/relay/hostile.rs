//! Clients that want the relay's memory: each attack is ridden against a relay of its own process, whose largest RSS is printed and has a bound,
//! while a client that behaves is served beside it.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use masque_relay::{
    probe::{Client, Options, SendHalf, StreamEnd, TcpTunnel, UdpTunnel},
    proto::{codes::h3, frame, settings::Settings, write_varint},
};
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::interval,
};

use crate::support::{
    path::{Conditions, Path},
    process::RelayProcess,
    tcp::{TcpEcho, TcpTarget},
    udp::UdpTarget,
};

/// Attackers' connections in every attack.
const CONNECTIONS: usize = 2;

#[tokio::test]
async fn c09_heads_that_do_not_end_take_no_memory() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    for known in [false, true] {
        for _ in 0..CONNECTIONS {
            let client = siege.attacker(|_| {}).await;
            if known {
                authenticate(&client).await;
            }
            // HEADERS, or a frame of unknown type in front of it, of 2^40 bytes: more streams than are read at once.
            for kind in [frame::HEADERS, 0x21, frame::HEADERS, 0x21].into_iter().cycle().take(80) {
                flood.pour(&client, declared(kind, 1 << 40), Bytes::from_static(&[0; 4096]), 1 << 20);
            }
        }
    }
    flood.at_rest().await;
    siege.lifted(flood, 30).await;
}

#[tokio::test]
async fn c09_half_a_head_on_every_stream_takes_what_is_stated() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    for known in [false, true] {
        for _ in 0..CONNECTIONS {
            let client = siege.attacker(|_| {}).await;
            if known {
                authenticate(&client).await;
            }
            // Whole but for its last byte, and as large as a head may be.
            for _ in 0..100 {
                flood.pour(&client, declared(frame::HEADERS, 16 << 10), Bytes::from_static(&[0; 1023]), (16 << 10) - 1023);
            }
        }
    }
    flood.at_rest().await;
    siege.lifted(flood, 30).await;
}

#[tokio::test]
async fn c78_data_frames_of_one_byte_wait_in_bounded_memory() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    for _ in 0..CONNECTIONS {
        let client = siege.attacker(|_| {}).await;
        // All are open before the first one fills the connection's window.
        for (tunnel, target) in siege.tunnels(&client, 50).await {
            // The target reads nothing.
            flood.pour_into((tunnel, target), |(tunnel, _)| &mut tunnel.send, [0, 1, b'x'].repeat(1365).into(), 64 << 20);
        }
    }
    flood.at_rest().await;
    siege.lifted(flood, 140).await;
}

#[tokio::test]
async fn c62_capsules_of_any_length_take_no_memory() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    let target = UdpTarget::silent().await;
    for kind in [0x17_u64, 0x00] {
        for _ in 0..CONNECTIONS {
            let client = siege.attacker(|_| {}).await;
            for _ in 0..8 {
                let mut tunnel = client.connect_udp("127.0.0.1", target.address().port()).await.unwrap();
                tunnel.send.send(declared(kind, 1 << 40)).await.unwrap();
                flood.pour_into(tunnel, |tunnel| &mut tunnel.send, frame::encode(frame::DATA, &[0; 4093]).into(), 2 << 20);
            }
        }
    }
    flood.at_rest().await;
    assert_eq!(target.so_far(), []);
    siege.lifted(flood, 30).await;
}

#[tokio::test]
async fn c50_datagrams_of_every_wrong_shape_take_no_memory() {
    let mut siege = Siege::start().await;
    let target = UdpTarget::silent().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = siege.attacker(|_| {}).await;
        let udp = client.connect_udp("127.0.0.1", target.address().port()).await.unwrap();
        // Of a stream not open yet, of an unknown context, of none, of half a context ID, of a stream that is over.
        let over = client.connect_udp("127.0.0.1", target.address().port()).await.unwrap().quarter_id();
        let shapes: Vec<Vec<u8>> = (0..90).map(|ahead| [quarter(udp.quarter_id() + 2 + ahead), vec![0; 1100]].concat()).collect();
        let own = quarter(udp.quarter_id());
        let more = [[&own[..], &[2; 1100]].concat(), own.clone(), [&own[..], &[0x40]].concat(), [quarter(over), vec![0; 1100]].concat()];
        for shape in shapes.iter().chain(&more).cycle().take(20_000) {
            client.quinn().send_datagram_wait(shape.clone().into()).await.unwrap();
        }
        // Those that end a request or the connection, again and again.
        for fatal in [&[][..], &[0x40], &[0xff; 12], &[0xc0, 0, 0, 0xff, 0, 0, 0, 0]].iter().cycle().take(40) {
            let client = siege.attacker(|_| {}).await;
            let tcp = client.connect_tcp(&siege.echo.address().to_string()).await.unwrap();
            client.send_raw_datagram([quarter(tcp.send.id() / 4), vec![0; 1000]].concat().into()).unwrap();
            client.send_raw_datagram(Bytes::copy_from_slice(fatal)).unwrap();
            client.closed().await.unwrap();
        }
        held.push(udp);
    }
    siege.lifted(held, 30).await;
}

#[tokio::test]
async fn c78_clients_that_never_read_take_no_more_than_they_permit() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    for _ in 0..CONNECTIONS {
        let client = siege.attacker(|options| options.stream_window = 1000).await;
        for (tunnel, target) in siege.tunnels(&client, 50).await {
            flood.gush(tunnel, target);
        }
    }
    flood.at_rest().await;
    siege.lifted(flood, 30).await;
}

#[tokio::test]
async fn c78_clients_that_never_acknowledge_take_no_more_than_the_send_window() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    let path = siege.path().await;
    let mut tunnels = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = siege.attacker(|options| options.addresses = vec![path.address()]).await;
        tunnels.extend(siege.tunnels(&client, 50).await);
    }
    // Whatever they permit, from now on nothing arrives.
    path.set_back(Conditions { loss: 1.0, ..Conditions::default() });
    for (tunnel, target) in tunnels {
        flood.gush(tunnel, target);
    }
    flood.at_rest().await;
    siege.lifted(flood, 60).await;
    drop(path);
}

#[tokio::test]
async fn c65_clients_that_never_read_capsules_take_no_more_than_they_permit() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    let sent = Arc::clone(&flood.sent);
    let target = UdpTarget::start(Ipv4Addr::LOCALHOST.into(), move |payload| {
        sent.fetch_add(1, Relaxed);
        vec![payload.to_vec(); 50]
    });
    let target = target.await;
    for _ in 0..CONNECTIONS {
        let client = siege.attacker(no_datagrams).await;
        for _ in 0..50 {
            let tunnel = client.connect_udp("127.0.0.1", target.address().port()).await.unwrap();
            let capsules = [&frame::data_header(1204)[..], &[0, 0x44, 0xb1, 0], &[7; 1200]].concat();
            flood.pour_into(tunnel, |tunnel| &mut tunnel.send, capsules.into(), 12_000);
        }
    }
    flood.at_rest().await;
    assert!(target.so_far().iter().all(|packet| packet.payload == [7; 1200]));
    siege.lifted(flood, 30).await;
}

/// A request that is let in opens the connection up: larger windows, more heads side by side.
async fn authenticate(client: &Client) {
    let target = TcpTarget::start().await;
    drop(client.connect_tcp(&target.address().to_string()).await.unwrap());
}

/// A client that takes no datagrams, and of each stream no more than a head and half a capsule.
fn no_datagrams(options: &mut Options) {
    options.datagram_receive = None;
    options.settings = Settings(vec![]);
    options.stream_window = 1000;
}

/// The first bytes of a frame or capsule of `length`.
fn declared(kind: u64, length: u64) -> Bytes {
    let mut bytes = Vec::new();
    write_varint(kind, &mut bytes);
    write_varint(length, &mut bytes);
    bytes.into()
}

fn quarter(id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_varint(id, &mut bytes);
    bytes
}

/// A relay under attack, and the client beside.
struct Siege {
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
    async fn start() -> Self {
        let relay = RelayProcess::start("timeouts.head = \"1m\"\ntimeouts.authenticate = \"1m\"\n");
        let idle_descriptors = relay.descriptors();
        let (echo, udp_echo) = (TcpEcho::start().await, UdpTarget::echo().await);
        let neighbour = relay.client().await;
        let tcp = neighbour.connect_tcp(&echo.address().to_string()).await.unwrap();
        let udp = neighbour.connect_udp("127.0.0.1", udp_echo.address().port()).await.unwrap();
        let before = relay.memory().rss;
        Self { relay, attackers: Vec::new(), before, idle_descriptors, neighbour, tcp, udp, echo, _udp_echo: udp_echo }
    }

    /// A connection of an attacker's.
    async fn attacker(&mut self, change: impl FnOnce(&mut Options)) -> Arc<Client> {
        let mut options = self.relay.options();
        change(&mut options);
        let client = Arc::new(Client::open(options).await.expect("the relay takes a connection"));
        self.attackers.push(Arc::clone(&client));
        client
    }

    /// Open tunnels of an attacker's, and their targets' ends.
    async fn tunnels(&self, client: &Client, count: usize) -> Vec<(TcpTunnel, TcpStream)> {
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

    /// A path to the relay that can be made worse.
    async fn path(&self) -> Path {
        Path::start(self.relay.address(), 1, Conditions::default(), Conditions::default()).await.unwrap()
    }

    /// The end of the attack: the neighbour is served, and the relay has never held more than `most` MiB above what it held before.
    async fn lifted(mut self, attack: impl Sized, most: u64) {
        self.serves_the_neighbour().await;
        let peak = self.relay.memory().peak;
        drop(attack);
        for attacker in &self.attackers {
            attacker.close(h3::NO_ERROR, b"");
        }
        self.serves_the_neighbour().await;
        drop((self.tcp, self.udp, self.neighbour));
        self.relay.descriptors_back_at(self.idle_descriptors).await;
        let (before, after) = (self.before, self.relay.memory().rss);
        println!("RSS of the relay's process: {before} KiB before, {peak} KiB at most (+{} KiB), {after} KiB after", peak - before);
        assert!(peak - before <= most << 10, "{} KiB more than before the attack: {most} MiB were allowed", peak - before);
        self.relay.finish().await;
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
        let mut new = self.neighbour.connect_tcp(&self.echo.address().to_string()).await.unwrap();
        new.finish().unwrap();
        assert_eq!(new.ended().await, StreamEnd::Finished);
    }
}

/// Streams that send all they may, and go on holding what they have.
#[derive(Default)]
struct Flood {
    sent: Arc<AtomicU64>,
    streams: JoinSet<()>,
}

impl Flood {
    /// Opens a stream as soon as there is room for it; sends `first`, then `pattern` again and again, `most` bytes at least.
    fn pour(&mut self, client: &Arc<Client>, first: Bytes, pattern: Bytes, most: usize) {
        let (client, sent) = (Arc::clone(client), Arc::clone(&self.sent));
        self.streams.spawn(async move {
            let Ok(mut streams) = client.quinn().open_bi().await else { return };
            let chunks = std::iter::once(first).chain(std::iter::repeat_n(pattern.clone(), most.div_ceil(pattern.len())));
            for chunk in chunks {
                let length = chunk.len() as u64;
                // Refused, or taken for an attack: that is an end too.
                if streams.0.write_chunk(chunk).await.is_err() {
                    break;
                }
                sent.fetch_add(length, Relaxed);
            }
            std::future::pending().await
        });
    }

    /// The same in an open tunnel.
    fn pour_into<T: Send + 'static>(&mut self, mut tunnel: T, send: fn(&mut T) -> &mut SendHalf, pattern: Bytes, most: usize) {
        let sent = Arc::clone(&self.sent);
        self.streams.spawn(async move {
            for chunk in std::iter::repeat_n(pattern.clone(), most.div_ceil(pattern.len())) {
                let length = chunk.len() as u64;
                if send(&mut tunnel).send_raw(chunk).await.is_err() {
                    break;
                }
                sent.fetch_add(length, Relaxed);
            }
            std::future::pending().await
        });
    }

    /// The same from a target, whatever happens to the tunnel.
    fn gush(&mut self, tunnel: TcpTunnel, mut target: TcpStream) {
        let sent = Arc::clone(&self.sent);
        self.streams.spawn(async move {
            while let Ok(length) = target.write(&[0; 4096]).await {
                sent.fetch_add(length as u64, Relaxed);
            }
            drop(tunnel);
        });
    }

    /// Waits until nothing has moved for half a second: it is held back everywhere, or over.
    async fn at_rest(&self) {
        let (mut last, mut still) = (0, 0);
        let mut ticks = interval(Duration::from_millis(50));
        while still < 10 {
            ticks.tick().await;
            let now = self.sent.load(Relaxed);
            still = if now == last { still + 1 } else { 0 };
            last = now;
        }
    }
}
