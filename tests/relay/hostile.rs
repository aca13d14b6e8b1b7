//! Clients that want the relay's memory: each attack is ridden against a relay of its own process, whose largest RSS is printed and has a bound,
//! while a client that behaves is served beside it.

mod worst;

use std::{net::Ipv4Addr, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use masque_relay::{
    config::memory,
    probe::Options,
    proto::{frame, settings::Settings, write_varint},
};

use crate::support::{
    Client,
    path::Conditions,
    siege::{Flood, Siege},
    tcp::TcpTarget,
    udp::UdpTarget,
};

/// Attackers' connections in every attack, and as many without credentials where that makes a difference.
const CONNECTIONS: usize = 2;
/// What known clients may make the relay hold by not being read, MiB: their connections' windows.
const WINDOWS: u64 = (CONNECTIONS as u64 * memory::RECEIVE_WINDOW) >> 20;
/// The same with four tunnels of each stalled, for which the window grows.
const STALLED_WINDOWS: u64 = (CONNECTIONS as u64 * 4 * memory::STREAM_WINDOW) >> 20;
/// What they may make it hold by not taking it.
const SEND_WINDOWS: u64 = (CONNECTIONS as u64 * memory::SEND_WINDOW) >> 20;

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
                flood.pour(&client, declared(kind, 1 << 40), Bytes::from_static(&[0; 4096]), 512 << 10);
            }
        }
    }
    flood.at_rest().await;
    siege.lifted(flood, WINDOWS + 16).await;
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
    siege.lifted(flood, 16).await;
}

#[tokio::test]
async fn c78_data_frames_of_one_byte_wait_in_bounded_memory() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    for _ in 0..CONNECTIONS {
        let client = siege.attacker(|_| {}).await;
        // All are open before the first one fills the connection's window. The targets read nothing, and the kernel takes some megabytes first.
        for (tunnel, target) in siege.tunnels(&client, 4).await {
            let first = frame::encode(frame::DATA, &vec![0; 2 << 20]).into();
            flood.pour_into((tunnel, target), |(tunnel, _)| &mut tunnel.send, first, [0, 1, b'x'].repeat(1365).into(), 16 << 20);
        }
    }
    flood.at_rest().await;
    // A byte that waits keeps its packet, and the packet its burst: quinn lets that come to two and a half times the window before it copies.
    siege.lifted(flood, STALLED_WINDOWS * memory::KEPT_HALVES / 2).await;
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
                let tunnel = client.connect_udp("127.0.0.1", target.address().port()).await.unwrap();
                let capsule = frame::encode(frame::DATA, &declared(kind, 1 << 40)).into();
                flood.pour_into(tunnel, |tunnel| &mut tunnel.send, capsule, frame::encode(frame::DATA, &[0; 4093]).into(), 2 << 20);
            }
        }
    }
    flood.at_rest().await;
    assert_eq!(target.so_far(), []);
    siege.lifted(flood, 16).await;
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
            let tcp = client.connect_tcp(&siege.target()).await.unwrap();
            client.send_raw_datagram([quarter(tcp.send.id() / 4), vec![0; 1000]].concat().into()).unwrap();
            client.send_raw_datagram(Bytes::copy_from_slice(fatal)).unwrap();
            client.closed().await.unwrap();
        }
        held.push(udp);
    }
    siege.lifted(held, 16).await;
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
    siege.lifted(flood, 16).await;
}

#[tokio::test]
async fn c78_clients_that_never_acknowledge_take_no_more_than_the_send_window() {
    let mut siege = Siege::start().await;
    // What the first ones took is there for the next.
    for _ in 0..3 {
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
        siege.beaten_off(flood).await;
    }
    siege.lifted((), SEND_WINDOWS + 12).await;
}

#[tokio::test]
async fn clients_that_never_read_capsules_take_no_more_than_they_permit() {
    let mut siege = Siege::start().await;
    let mut flood = Flood::default();
    let sent = flood.count();
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
            flood.pour_into(tunnel, |tunnel| &mut tunnel.send, Bytes::new(), capsules.into(), 12_000);
        }
    }
    flood.at_rest().await;
    assert!(target.so_far().iter().all(|packet| packet.payload == [7; 1200]));
    siege.lifted(flood, 16).await;
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
