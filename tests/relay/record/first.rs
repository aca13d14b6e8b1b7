//! First packets: those that are none of a client of QUIC, and what comes back to one of which nothing more is known.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use masque_relay::{
    diagnosis::{By, Record},
    probe::{self, Options},
};
use rustls::{Side, crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, quic::Version};

use super::over;
use crate::support::{Relay, identity, tcp::TcpEcho, tunnels::assert_works, within, written};

/// A client's first packet, on its way.
async fn first_packet(relay: &Relay, change: impl FnOnce(&mut Options)) -> Vec<u8> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut options = relay.options();
    // Else its ClientHello would need two.
    (options.addresses, options.post_quantum) = (vec![socket.local_addr().unwrap()], false);
    change(&mut options);
    let mut packet = [0; 2000];
    tokio::select! {
        length = within("the first packet", socket.recv(&mut packet)) => packet[..length.unwrap()].to_vec(),
        opened = probe::Client::open(options) => panic!("nobody answers: {:?}", opened.err()),
    }
}

/// A sealed Initial packet of version 1 with these frames and PADDING, 1200 bytes (RFC 9001 §5).
fn initial(frames: &[u8]) -> Vec<u8> {
    const NUMBER: usize = 4;
    const TAG: usize = 16;
    let id = [7; 8];
    let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(rustls::Tls13CipherSuite::quic_suite).unwrap();
    let keys = suite.keys(&id, Side::Client, Version::V1).local;
    let mut packet = [&[0xc3, 0, 0, 0, 1, 8][..], &id, &[0, 0]].concat();
    let length = 1200 - packet.len() - 2;
    packet.extend_from_slice(&(0x4000 | length as u16).to_be_bytes());
    packet.extend_from_slice(&[0; NUMBER]);
    let (head, mut payload) = (packet.len(), frames.to_vec());
    payload.resize(length - NUMBER - TAG, 0);
    let tag = keys.packet.encrypt_in_place(0, &packet, &mut payload).unwrap();
    packet.extend_from_slice(&payload);
    packet.extend_from_slice(tag.as_ref());
    // The sample is behind four bytes of a number, whatever its length is; here it is that.
    let sample = packet[head..head + 16].to_vec();
    let (first, rest) = packet.split_first_mut().unwrap();
    keys.header.encrypt_in_place(&sample, first, &mut rest[head - 1 - NUMBER..head - 1]).unwrap();
    packet
}

fn socket(relay: &Relay) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(relay.address()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Lengths of the datagrams that have come.
fn came(socket: &UdpSocket) -> Vec<usize> {
    let mut packet = [0; 2000];
    let mut lengths = Vec::new();
    loop {
        match socket.recv(&mut packet) {
            Ok(length) => lengths.push(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return lengths,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_first_packet_that_was_damaged_is_recorded_and_not_answered() {
    let relay = Relay::spawn(|_| {}).await;
    let mut packet = first_packet(&relay, |_| {}).await;
    *packet.last_mut().unwrap() ^= 1;
    let (socket, address) = socket(&relay);
    socket.send(&packet).unwrap();
    let record = relay.recorded("the packet", |record| record.client == address && record.turned_away.is_some()).await;
    let why = record.turned_away.as_deref().unwrap();
    assert!(why.starts_with("a bad first packet: ") && why.contains("authentication failed"), "{why}");
    assert!(record.hello.is_none() && record.close.is_none(), "{record:#?}");
    assert!(record.findings()[0].means.contains("damaged"));
    // A client that is well is let in behind it; what the relay had to say to the other it would have said by then.
    assert_works(&relay.client().await, &TcpEcho::start().await).await;
    assert_eq!(came(&socket), Vec::<usize>::new());
    assert_eq!(relay.metrics().connections, 1);
    drop(socket);
    relay.finish().await;
}

#[tokio::test]
async fn a_client_that_never_sends_a_hello_is_told_as_one() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(300)).await;
    let (socket, address) = socket(&relay);
    // PING.
    socket.send(&initial(&[1])).unwrap();
    let record = relay.recorded("the end of waiting", |record| record.client == address && over(record)).await;
    let close = record.close.as_ref().unwrap();
    assert_eq!((close.by, close.reason.as_str()), (By::Relay, "no handshake in time"));
    assert!(record.hello.is_none() && record.handshake_ms.is_none() && record.turned_away.is_none(), "{record:#?}");
    drop(socket);
    relay.finish().await;
}

/// Nothing is known of the path yet but what the configuration says of it (RFC 9000 §14), nor that the client is where it says (§8.1).
#[tokio::test]
async fn the_first_flight_has_packets_as_large_as_both_sides_say_and_no_more_of_them_than_may_go_to_an_unproven_address() {
    // More than may be sent to such an address at all.
    let names: Vec<_> = (0..100).map(|number| format!("{number}.{}.test", "long".repeat(10))).collect();
    let (identity, files) = (identity(&names.iter().map(String::as_str).collect::<Vec<_>>()), tempfile::tempdir().unwrap());
    for (relays, clients, largest) in [(1350, 1500, 1350), (1200, 1500, 1200), (1350, 1200, 1200)] {
        let relay = Relay::spawn(|config| {
            config.quic.initial_mtu = relays;
            config.certificate.chain = written(files.path(), "chain.pem", &identity.chain);
            config.certificate.key = written(files.path(), "key.pem", &identity.key);
            config.timeouts.authenticate = Duration::from_millis(300);
        })
        .await;
        let packet = first_packet(&relay, |options| (options.initial_mtu, options.max_udp_payload) = (1200, clients)).await;
        assert_eq!(packet.len(), 1200);
        let (socket, address) = socket(&relay);
        socket.send(&packet).unwrap();
        let whole = |record: &Record| record.client == address && over(record);
        relay.recorded("the end of waiting", whole).await;
        let lengths = came(&socket);
        println!("{lengths:?}");
        assert_eq!(lengths.iter().max(), Some(&largest), "{lengths:?}");
        // quinn lets the packet go whole with which the limit is passed.
        assert!((2 * packet.len()..3 * packet.len() + largest).contains(&lengths.iter().sum()), "{lengths:?}");
        drop(socket);
        relay.finish().await;
    }
}
