//! One connection that takes everything at once, beside what `check --show` states as the worst of one.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use masque_relay::{
    config::{Config, memory},
    proto::frame,
};

use super::{declared, quarter};
use crate::support::{
    Client,
    path::Conditions,
    siege::{Flood, Siege},
    udp::UdpTarget,
};

/// Tunnels of the connection: as many as it may have.
const TUNNELS: usize = 40;
/// Of them, those to TCP targets that do not read, and those to TCP targets that send.
const UNREAD: usize = 6;
const SENDING: usize = 10;
/// The rest are UDP tunnels.
const PACKETS: usize = TUNNELS - UNREAD - SENDING;

#[tokio::test]
async fn c78_a_connection_that_takes_all_it_can_has_most_of_what_is_stated_and_no_more() {
    let mut siege = Siege::start_with(&format!("limits.tunnels_per_connection = {TUNNELS}\n")).await;
    let mut flood = Flood::default();
    let path = siege.path().await;
    let client = siege.attacker(|options| options.addresses = vec![path.address()]).await;
    let target = UdpTarget::silent().await;
    let unread = siege.tunnels(&client, UNREAD).await;
    let sending = siege.tunnels(&client, SENDING).await;

    // UDP tunnels, a capsule half written on each.
    let mut upstreams = Vec::new();
    for number in 0..PACKETS {
        let mut tunnel = client.connect_udp("127.0.0.1", target.address().port()).await.unwrap();
        tunnel.send_capsule(b"where are you").await.unwrap();
        upstreams.push(target.received(number + 1).await[number].from);
        let capsule = [&frame::data_header(64_000)[..], &declared(0, 65_000)].concat().into();
        flood.pour_into(tunnel, |tunnel| &mut tunnel.send, capsule, Bytes::from_static(&[0; 4000]), 63_000);
    }
    // Half heads on as many streams as are read at once, and datagrams that come too early for them.
    for _ in 0..memory::HEADS {
        flood.pour(&client, declared(frame::HEADERS, 16 << 10), Bytes::from_static(&[0; 1023]), (16 << 10) - 1023);
    }
    flood.at_rest().await;
    early_datagrams(&client, upstreams.len() as u64 + 1);
    // Every window of the connection is filled.
    for tunnel in unread {
        let first = frame::encode(frame::DATA, &vec![0; 2 << 20]).into();
        flood.pour_into(tunnel, |(tunnel, _)| &mut tunnel.send, first, frame::encode(frame::DATA, &[0; 16 << 10]).into(), 12 << 20);
    }
    flood.at_rest_for(40).await;
    // From now on the client takes nothing and acknowledges nothing.
    path.set_back(Conditions { loss: 1.0, ..Conditions::default() });
    for (tunnel, target) in sending {
        flood.gush(tunnel, target);
    }
    gush_packets(&target, &upstreams);
    flood.at_rest().await;
    // So that the relay learns of the end.
    path.set_back(Conditions::default());

    let mut config = Config::default();
    config.limits.tunnels_per_connection = TUNNELS;
    let worst = config.worst_case_memory();
    let stated = memory::sum(&worst.connection) + worst.tunnels;
    // A byte in a window counts as two and a half, which is what quinn lets a byte keep; these senders make it keep little more than itself.
    let once = stated - (memory::RECEIVE_WINDOW + memory::STALLED * memory::STREAM_WINDOW) * (memory::KEPT_HALVES - 2) / 2;
    let taken = siege.lifted(flood, stated >> 20).await << 10;
    println!("{} were taken of {}, or of {} if a byte kept only itself", memory::bytes(taken), memory::bytes(stated), memory::bytes(once));
    assert!(taken > once / 2, "what is stated is far from what can be: {} of {}", memory::bytes(taken), memory::bytes(stated));
}

/// More than are held for requests whose heads are not whole, the first of which has this quarter stream ID.
fn early_datagrams(client: &Arc<Client>, first: u64) {
    for id in first..first + memory::HEADS {
        for _ in 0..2 {
            client.send_raw_datagram([quarter(id), vec![0; 1100]].concat().into()).unwrap();
        }
    }
}

/// More than any queue holds, large ones among them.
fn gush_packets(target: &UdpTarget, upstreams: &[SocketAddr]) {
    let large = vec![7; 60_000];
    for round in 0..40 {
        for upstream in upstreams {
            target.send_now(&[7; 1200], *upstream);
            if round % 4 == 0 {
                target.send_now(&large, *upstream);
            }
        }
    }
}
