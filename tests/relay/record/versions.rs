//! Clients of a QUIC version that is not spoken here: what they are told (RFC 9000 §6, RFC 8999 §6), and what is kept of it.

use masque_relay::diagnosis::Record;
use tokio::{net::UdpSocket, time::Instant};

use crate::support::{Relay, tcp::TcpEcho, tunnels::assert_works, within};

const GREASE: u32 = 0x1a2a_3a4a;
const V2: u32 = 0x6b33_43cf;
/// The largest version of the drafts that anybody speaks.
const DRAFT_34: u32 = 0xff00_0022;

/// A client's first packet, of any version: what RFC 8999 says of it, and `length` bytes in all.
fn packet(version: u32, [destination, source]: [&[u8]; 2], length: usize) -> Vec<u8> {
    let id = |id: &[u8]| [&[id.len() as u8], id].concat();
    let mut packet = [&[0xc0], &version.to_be_bytes()[..], &id(destination), &id(source)].concat();
    packet.resize(length, 0x55);
    packet
}

async fn socket(relay: &Relay) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(relay.address()).await.unwrap();
    socket
}

/// The relay's answer.
async fn asked(socket: &UdpSocket, packet: &[u8]) -> Vec<u8> {
    socket.send(packet).await.unwrap();
    let mut answer = [0; 2000];
    let length = within("an answer", socket.recv(&mut answer)).await.unwrap();
    answer[..length].to_vec()
}

/// The versions of a Version Negotiation packet, once the rest of it is right (RFC 8999 §6).
fn listed(answer: &[u8], [destination, source]: [&[u8]; 2]) -> Vec<u32> {
    let ids = [&[source.len() as u8], source, &[destination.len() as u8], destination].concat();
    assert_eq!((answer[0] & 0x80, &answer[1..5]), (0x80, &[0; 4][..]), "{answer:02x?}");
    let versions = answer[5..].strip_prefix(&ids[..]).unwrap_or_else(|| panic!("its connection IDs are not ours swapped: {answer:02x?}"));
    let (versions, rest) = versions.as_chunks();
    assert!(rest.is_empty(), "{answer:02x?}");
    versions.iter().map(|version| u32::from_be_bytes(*version)).collect()
}

fn told(record: &Record) -> String {
    record.timeline().into_iter().map(|moment| moment.what + "\n").collect()
}

#[tokio::test]
async fn a_client_of_another_version_is_told_those_that_are_spoken_and_recorded() {
    let relay = Relay::spawn(|_| {}).await;
    let offers: [(u32, &str, [&[u8]; 2]); 3] =
        [(GREASE, "GREASE", [&[1; 8], &[2; 5]]), (V2, "v2", [&[3; 20], &[]]), (0x5130_3530, "0x51303530,", [&[], &[4; 20]])];
    for (number, (version, name, ids)) in offers.into_iter().enumerate() {
        let socket = socket(&relay).await;
        let answer = asked(&socket, &packet(version, ids, 1200)).await;
        let versions = listed(&answer, ids);
        assert!(versions.contains(&1) && versions.contains(&DRAFT_34) && !versions.contains(&version), "{versions:x?}");

        assert_eq!(relay.metrics().version_negotiations, number as u64 + 1);
        let right = |record: &Record| record.negotiation.as_ref().is_some_and(|negotiation| negotiation.offered == version);
        let record = relay.recorded("what was offered", right).await;
        let negotiation = record.negotiation.as_ref().unwrap();
        assert_eq!((record.client, record.turned_away.as_deref()), (socket.local_addr().unwrap(), Some("version negotiation")));
        assert_eq!(negotiation.connection_ids.map(usize::from), ids.map(<[u8]>::len));
        assert_eq!(negotiation.answered, versions, "the record has what was sent");
        let story = told(&record);
        assert!(story.contains(name) && story.contains("Version Negotiation: 0xa1a2a3a (GREASE), 0x1 (v1), "), "{story}");
        assert!(record.trouble().unwrap().seen.contains("is not spoken here"));
        relay.logged(&format!("offered=\"{version:#x}")).await;
    }
    assert_eq!(relay.metrics().connections, 0);
    relay.finish().await;
}

#[tokio::test]
async fn what_must_not_be_answered_is_neither_answered_nor_recorded() {
    let relay = Relay::spawn(|_| {}).await;
    let ids: [&[u8]; 2] = [&[1; 8], &[2; 8]];
    let socket = socket(&relay).await;
    for unanswered in [
        packet(V2, ids, 1199),
        // Two relays would go on for ever.
        packet(0, ids, 1200),
        packet(V2, [&[1; 21], &[2; 8]], 1200),
        packet(V2, ids, 7),
    ] {
        socket.send(&unanswered).await.unwrap();
    }
    // By its connection IDs the first answer that comes is that to the last packet.
    let ids: [&[u8]; 2] = [&[3; 8], &[4; 8]];
    let answer = asked(&socket, &packet(GREASE, ids, 1200)).await;
    listed(&answer, ids);
    assert_eq!(relay.metrics().version_negotiations, 1);
    let offered: Vec<_> = relay.records().iter().map(|record| record.negotiation.as_ref().map(|negotiation| negotiation.offered)).collect();
    assert_eq!(offered, [Some(GREASE)]);
    drop(socket);
    relay.finish().await;
}

#[tokio::test]
async fn a_client_that_comes_back_with_version_1_has_a_record_that_names_the_first() {
    let relay = Relay::spawn(|_| {}).await;
    let socket = socket(&relay).await;
    let address = socket.local_addr().unwrap();
    asked(&socket, &packet(V2, [&[1; 8], &[]], 1252)).await;
    drop(socket);
    let client = relay.client_with(|options| options.bind = Some(address)).await;
    assert_works(&client, &TcpEcho::start().await).await;
    let record = relay.recorded("the connection", |record| record.handshake_ms.is_some()).await;
    let first = relay.recorded("what came before", |record| record.negotiation.is_some()).await;
    assert_eq!((record.client, first.client), (address, address));
    assert_eq!((&record.negotiated, &first.negotiated), (&first.id, &None));
    let story = told(&record);
    assert!(story.contains(&format!("came before: {}", first.id.unwrap())), "{story}");
    drop(client);
    relay.finish().await;
}

#[tokio::test]
async fn a_flood_of_other_versions_is_counted_and_hardly_recorded_and_others_are_served() {
    const FLOOD: u64 = 600;
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let echo = TcpEcho::start().await;
    let began = Instant::now();
    let flood = async {
        for number in 0..FLOOD {
            // Each from an address of its own.
            let socket = socket(&relay).await;
            asked(&socket, &packet(GREASE, [&number.to_be_bytes(), &[]], 1200)).await;
        }
    };
    let served = async {
        for _ in 0..20 {
            assert_works(&client, &echo).await;
        }
    };
    tokio::join!(flood, served);
    // The first and the last may have begun before and end later.
    let seconds = began.elapsed().as_secs() + 2;
    assert_eq!(relay.metrics().version_negotiations, FLOOD);
    let recorded = relay.records().iter().filter(|record| record.negotiation.is_some()).count() as u64;
    assert!(recorded >= 8 && recorded <= (8 * seconds).min(32), "{recorded} in {seconds} s");
    let lines = relay.log().iter().filter(|line| line.contains("is not spoken here")).count() as u64;
    assert!(lines >= recorded && lines <= 8 * seconds, "{lines} lines in {seconds} s");
    // And a new one is let in.
    assert_works(&relay.client().await, &echo).await;
    relay.finish().await;
}
