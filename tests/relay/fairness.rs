//! Who gets how much of a connection, or of a worker, when somebody wants all of it. Over a path that is slow enough for the CPU never to decide;
//! what is judged are shares and counts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use masque_relay::{
    config::memory,
    metrics::{Loss, Way},
    probe::{TcpTunnel, UdpTunnel},
};
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{Instant, interval},
};

use crate::support::{
    Client, PATIENCE, Relay,
    path::{Conditions, Path},
    tcp::{TcpEcho, TcpTarget},
    tunnels::{assert_echoes, assert_echoes_udp, open_udp, pair, upstream},
    udp::UdpTarget,
    within,
};

#[tokio::test]
async fn c60_a_saturating_udp_tunnel_and_a_tcp_tunnel_share_their_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let (path, client) = slow_client(&relay).await;
    let mut flood = Flood::open(&client).await;
    let (mut tcp, _source) = endless(&client).await;

    let (mut by_udp, mut by_tcp) = (0, 0);
    let mut before = (0, 0);
    // The first part is the way there: the window opens, and quinn still holds what came before there was a stream.
    while by_udp + by_tcp < WARM_UP + JUDGED {
        if by_udp + by_tcp < WARM_UP {
            before = (by_udp, by_tcp);
        }
        tokio::select! {
            packet = flood.tunnel.recv() => by_udp += packet.unwrap().payload.len(),
            bytes = tcp.recv() => by_tcp += bytes.unwrap().expect("it never ends").len(),
        }
    }
    let (by_udp, by_tcp) = (by_udp - before.0, by_tcp - before.1);
    println!("UDP {by_udp} bytes, TCP {by_tcp} bytes; {:?}", path.tally());
    for share in [by_udp, by_tcp] {
        assert!(share * 3 > JUDGED, "less than a third: UDP {by_udp}, TCP {by_tcp}");
    }
    assert!(relay.metrics().lost(Way::Back, Loss::NoRoom) > 0, "else it was no flood");
    relay.finish().await;
}

#[tokio::test]
async fn c60_answers_and_small_exchanges_pass_a_flood_that_fills_every_packet() {
    let relay = Relay::spawn(|_| {}).await;
    let (_path, client) = slow_client(&relay).await;
    let echo = TcpEcho::start().await;
    let mut flood = Flood::open(&client).await;
    flood.is_at_its_height(&relay).await;
    let exchanges = async {
        for _ in 0..8 {
            // An answer, then a few bytes, and those again when the connection has had nothing else to send.
            let mut tunnel = within("an answer beside the flood", client.connect_tcp(&echo.address().to_string())).await.unwrap();
            for _ in 0..3 {
                within("an echo beside the flood", assert_echoes(&mut tunnel)).await;
            }
        }
    };
    flood.received_during(Box::pin(exchanges)).await;
    relay.finish().await;
}

#[tokio::test]
async fn c60_of_32_tunnels_the_modest_lose_nothing_and_the_greedy_share_alike() {
    let relay = Relay::spawn(|_| {}).await;
    // The path loses nothing, so what is missing was lost by the relay.
    let (path, client) = client_behind(&relay, RATE / 4, 100 << 20).await;
    let (mut tunnels, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..GREEDY + MODEST {
        let target = UdpTarget::silent().await;
        let mut tunnel = open_udp(&client, &target).await;
        let to = upstream(&mut tunnel, &target).await;
        tunnels.push(tunnel);
        targets.push((target, to));
    }
    // Each greedy one sends more than the whole path takes, and another one more; of the modest, each sends 5 to 40 small packets a second.
    let sending = async {
        let mut ticks = interval(Duration::from_millis(25));
        for tick in 0..ROUNDS {
            ticks.tick().await;
            for (number, (target, to)) in targets.iter().enumerate() {
                match number.checked_sub(GREEDY) {
                    None => (0..10 * (number + 1)).for_each(|_| target.send_now(&PACKET, *to)),
                    Some(modest) if tick.is_multiple_of(modest % 8 + 1) => target.send_now(&[0; 60], *to),
                    Some(_) => {}
                }
            }
        }
        // Behind everything else of its flow.
        for (target, to) in &targets {
            target.send_now(LAST, *to);
        }
    };
    let mut receiving = JoinSet::new();
    for (number, mut tunnel) in tunnels.into_iter().enumerate() {
        receiving.spawn(async move {
            let mut count = 0;
            while tunnel.recv().await.unwrap().payload != LAST {
                count += 1;
            }
            (number, count)
        });
    }
    sending.await;
    let mut came = receiving.join_all().await;
    came.sort_unstable();
    println!("packets that came: {came:?}, {:?}", path.tally());
    for (number, count) in &came[GREEDY..] {
        assert_eq!(*count, ROUNDS.div_ceil((number - GREEDY) % 8 + 1), "modest tunnel {number} lost something");
    }
    let (least, most) = (came[..GREEDY].iter().map(|(_, count)| count).min(), came[..GREEDY].iter().map(|(_, count)| count).max());
    assert!(most.unwrap() * 2 <= least.unwrap() * 3, "one has one and a half times as much as another: {:?}", &came[..GREEDY]);
    assert!(relay.metrics().lost(Way::Back, Loss::NoRoom) > 0, "else nobody was greedy");
    relay.finish().await;
}

#[tokio::test]
async fn a_greedy_client_costs_its_neighbour_on_the_same_worker_no_packet_and_little_time() {
    let relay = Relay::spawn(|config| config.workers = 1).await;
    let (_path, greedy) = slow_client(&relay).await;
    let (mut flood, echo) = (Flood::open(&greedy).await, UdpTarget::echo().await);
    flood.is_at_its_height(&relay).await;
    let modest = relay.client().await;
    let mut tunnel = open_udp(&modest, &echo).await;
    let trips = async {
        let mut trips = Vec::new();
        for number in 0..TRIPS {
            let start = Instant::now();
            assert_echoes_udp(&mut tunnel, &number.to_be_bytes()).await;
            trips.push(start.elapsed());
        }
        trips.sort_unstable();
        trips
    };
    let (trips, beside) = flood.received_during(trips).await;
    println!("round trips beside {beside} packets: p50 {:?}, p99 {:?}", trips[TRIPS / 2], trips[TRIPS * 99 / 100]);
    // On loopback they take a millisecond; what the greedy client waits for is a hundred times that.
    assert!(trips[TRIPS / 2] < Duration::from_millis(100), "{trips:?}");
    relay.finish().await;
}

#[tokio::test]
async fn c59_what_waits_in_front_of_a_packet_is_bounded() {
    let relay = Relay::spawn(|_| {}).await;
    let (path, client) = slow_client(&relay).await;
    let mut flood = Flood::open(&client).await;
    flood.is_at_its_height(&relay).await;
    // What one packet waits for are the packets that arrive between its departure and its arrival.
    let mut longest = 0;
    for number in 0..10_u32 {
        let mut ahead = 0;
        flood.target_sends(&number.to_be_bytes());
        loop {
            let packet = within("the packet behind the flood, or a later one", flood.tunnel.recv()).await.unwrap();
            if packet.payload == number.to_be_bytes()[..] {
                break longest = longest.max(ahead);
            }
            ahead += 1;
            // The path loses some.
            if ahead > 2 * MOST_AHEAD {
                break;
            }
        }
    }
    println!("at most {longest} packets in front of another one; {:?}", path.tally());
    assert!(longest > 0, "none of ten came");
    assert!(longest <= MOST_AHEAD, "{longest} packets were in front of one");
    relay.finish().await;
}

/// Packets in front of one of a flood: quinn's buffer, the flow's own queue, one in hand; and what the path holds, twice, since the window overshoots.
const MOST_AHEAD: usize = memory::DATAGRAMS_OUT as usize / PACKET.len() + 64 + 1 + 2 * (QUEUE + RATE as usize / 50) / PACKET.len();

/// Round trips of a modest client.
const TRIPS: usize = 100;
/// Tunnels that want everything, and others.
const GREEDY: usize = 4;
const MODEST: usize = 28;
/// Of what they send.
const ROUNDS: usize = 60;
const LAST: &[u8] = b"last";

/// Bytes a second to the client: 8 Mbit/s.
const RATE: u64 = 1_000_000;
/// Bytes that are judged, and those before.
const JUDGED: usize = 2_000_000;
const WARM_UP: usize = 500_000;

/// Bytes that wait at the path's narrowest place.
const QUEUE: usize = 60_000;

/// A client behind a path of [`RATE`], 20 ms long.
async fn slow_client(relay: &Relay) -> (Path, Client) {
    client_behind(relay, RATE, QUEUE).await
}

async fn client_behind(relay: &Relay, rate: u64, queue: usize) -> (Path, Client) {
    let way = Conditions { delay: Duration::from_millis(10), ..Conditions::default() };
    let path = Path::start(relay.address(), 1, way, Conditions { rate: Some(rate), queue, ..way }).await.unwrap();
    // Packets of the target then fill the relay's: nothing else fits in beside them.
    let client = relay.client_with(|options| (options.addresses, options.max_udp_payload) = (vec![path.address()], 1240)).await;
    (path, client)
}

/// A UDP tunnel whose target sends three times what the path takes.
struct Flood {
    tunnel: UdpTunnel,
    target: Arc<UdpTarget>,
    to: SocketAddr,
    _task: JoinSet<()>,
}

impl Flood {
    async fn open(client: &Client) -> Self {
        let target = Arc::new(UdpTarget::silent().await);
        let mut tunnel = open_udp(client, &target).await;
        let to = upstream(&mut tunnel, &target).await;
        let mut task = JoinSet::new();
        task.spawn({
            let target = Arc::clone(&target);
            async move {
                let mut ticks = interval(Duration::from_millis(5));
                loop {
                    ticks.tick().await;
                    (0..3 * RATE / 200 / PACKET.len() as u64).for_each(|_| target.send_now(&PACKET, to));
                }
            }
        });
        Self { tunnel, target, to, _task: task }
    }

    /// A packet among those of the flood.
    fn target_sends(&self, payload: &[u8]) {
        self.target.send_now(payload, self.to);
    }

    /// Receives until the window has grown over what the path takes, and the relay drops what is too much.
    async fn is_at_its_height(&mut self, relay: &Relay) {
        let until = Instant::now() + PATIENCE;
        let mut received = 0;
        while received < WARM_UP || relay.metrics().lost(Way::Back, Loss::NoRoom) == 0 {
            received += self.tunnel.recv().await.unwrap().payload.len();
            assert!(Instant::now() < until, "it is no flood: {:?}", relay.metrics());
        }
    }

    /// Receives until `done`; gives what that gives, and how many packets came.
    async fn received_during<T>(&mut self, done: impl Future<Output = T>) -> (T, usize) {
        let mut done = std::pin::pin!(done);
        let mut count = 0;
        loop {
            tokio::select! {
                done = &mut done => return (done, count),
                packet = self.tunnel.recv() => {
                    packet.unwrap();
                    count += 1;
                }
            }
        }
    }
}

const PACKET: [u8; 1200] = [7; 1200];

/// A TCP tunnel whose target sends as much as is taken.
async fn endless(client: &Client) -> (TcpTunnel, JoinSet<()>) {
    let target = TcpTarget::start().await;
    let (tunnel, mut stream) = pair(client, &target).await;
    let mut task = JoinSet::new();
    task.spawn(async move { while stream.write(&[9; 16 << 10]).await.is_ok() {} });
    (tunnel, task)
}
