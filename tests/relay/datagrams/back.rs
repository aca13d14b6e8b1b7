//! Datagrams on the way back: too large, or too many.

use masque_relay::{
    metrics::{Loss, Snapshot, Way},
    probe::{Http, Means, StreamEnd},
};
use tokio::time::Instant;

use crate::support::{
    PATIENCE, Relay, on_versions,
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_echoes_udp, capsule_client, open_tcp, open_udp, upstream},
    udp::UdpTarget,
    until,
};

#[tokio::test]
async fn c58_a_packet_too_big_for_a_frame_costs_itself() {
    let relay = Relay::spawn(|_| {}).await;
    // 1400 bytes are no packet of this client's.
    let client = relay.client_with(|options| options.max_udp_payload = 1300).await;
    let target = UdpTarget::start([127, 0, 0, 1].into(), |asked| vec![vec![7; 1400], asked.to_vec(), vec![7; 65_000]]).await;
    let mut tunnel = open_udp(&client, &target).await;
    for question in [&b"first"[..], b"second"] {
        tunnel.send(question).unwrap();
        let packet = tunnel.recv().await.unwrap();
        assert_eq!((&packet.payload[..], packet.means), (question, Means::Datagram));
    }
    until("four packets to be dropped", || relay.metrics().lost(Way::Back, Loss::TooBig), |lost| *lost == 4).await;
    tunnel.finish().unwrap();
    // By no capsule either: nothing else is left on the stream.
    assert_eq!(tunnel.recv().await, Err(StreamEnd::Finished));
    relay.finish().await;
}

#[tokio::test]
async fn c59_what_overflows_is_dropped_and_counted_and_congestion_control_is_on() {
    let relay = Relay::spawn(|_| {}).await;
    let target = UdpTarget::silent().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &target).await;
    let upstream = upstream(&mut tunnel, &target).await;

    flood(&relay, |_| target.send_now(&PACKET, upstream));
    let seen = relay.metrics();
    // 32 packets of the first congestion window, 64 KiB that wait for it, and some probes.
    assert!(seen.packets[BACK] < 150, "without an acknowledgement {} packets left", seen.packets[BACK]);
    assert!(seen.lost(Way::Back, Loss::NoRoom) > 150, "{seen:?}");

    // Nothing is lost but what was counted, and the newest is not.
    target.send_now(b"last", upstream);
    while tunnel.recv().await.unwrap().payload != "last" {}
    let all = until_counted(&relay, FLOOD + 1).await;
    assert_eq!(all.lost(Way::Back, Loss::NoRoom), all.dropped[BACK].iter().sum::<u64>());
    relay.finish().await;
}

on_versions!(c60_a_flooded_tunnel_costs_another_nothing: h2 h3);

async fn c60_a_flooded_tunnel_costs_another_nothing(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let (flooding, quiet) = (UdpTarget::silent().await, UdpTarget::silent().await);
    let (client, loss) = match http {
        Http::H3 => (relay.client_over(http).await, Loss::NoRoom),
        _ => (capsule_client(&relay, http, 16 << 10).await, Loss::Unread),
    };
    let (mut flooded, mut other) = (open_udp(&client, &flooding).await, open_udp(&client, &quiet).await);
    let [to_flooded, to_other] = [upstream(&mut flooded, &flooding).await, upstream(&mut other, &quiet).await];

    flood(&relay, |number| {
        flooding.send_now(&PACKET, to_flooded);
        if number % 40 == 0 {
            quiet.send_now(&number.to_be_bytes(), to_other);
        }
    });
    for number in (0..FLOOD).filter(|number| number % 40 == 0) {
        assert_eq!(other.recv().await.unwrap().payload, &number.to_be_bytes()[..]);
    }
    assert!(relay.metrics().lost(Way::Back, loss) > 0, "else it was no flood");
    relay.finish().await;
}

on_versions!(c60_a_tunnel_that_is_not_read_stops_no_other: h2 h3);

async fn c60_a_tunnel_that_is_not_read_stops_no_other(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let (silent, echo, tcp) = (UdpTarget::silent().await, UdpTarget::echo().await, TcpEcho::start().await);
    let client = capsule_client(&relay, http, 4096).await;
    let mut unread = open_udp(&client, &silent).await;
    let (mut udp, mut tcp) = (open_udp(&client, &echo).await, open_tcp(&client, &tcp).await);
    let upstream = upstream(&mut unread, &silent).await;
    let fill = || {
        silent.send_now(&PACKET, upstream);
        relay.metrics().lost(Way::Back, Loss::Unread)
    };
    until("a tunnel to overflow", fill, |lost| *lost > 0).await;

    assert_echoes(&mut tcp).await;
    assert_echoes_udp(&mut udp, b"by capsule").await;
    relay.finish().await;
}

const BACK: usize = Way::Back as usize;

const PACKET: [u8; 1200] = [7; 1200];

/// Packets of a flood: many times what the relay keeps.
const FLOOD: u64 = 400;

/// Sends many times, while nothing of the client runs: it acknowledges nothing. Never more than the relay's socket holds before they are looked at.
fn flood(relay: &Relay, mut send: impl FnMut(u64)) {
    /// At most so many are neither sent on nor dropped yet: two queues, two packets in hand.
    const QUEUED: u64 = 2 * 64 + 2;
    let until = Instant::now() + PATIENCE;
    for number in 0..FLOOD {
        send(number);
        while counted(&relay.metrics()) + QUEUED + 20 < number {
            assert!(Instant::now() < until, "the relay does not look at its packets: {:?}", relay.metrics());
            std::thread::yield_now();
        }
    }
}

/// Packets of targets that went on or were dropped.
fn counted(seen: &Snapshot) -> u64 {
    seen.packets[BACK] + seen.dropped[BACK].iter().sum::<u64>()
}

async fn until_counted(relay: &Relay, count: u64) -> Snapshot {
    until("every packet to be accounted for", || relay.metrics(), |seen| counted(seen) == count).await;
    relay.metrics()
}
