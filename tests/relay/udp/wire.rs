//! What the relay's packets towards a target look like on the wire (C-69, C-71): seen by a packet socket in a network of the test's own.

use std::{io::Read, net::SocketAddr};

use masque_relay::metrics::{Loss, Way};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::support::{
    Relay,
    namespace::in_namespace,
    tunnels::{assert_echoes_udp, open_udp, payloads, upstream},
    udp::UdpTarget,
    until,
};

#[test]
fn c69_c71_packets_towards_an_ipv4_target_are_whole_and_not_ect() {
    in_namespace("udp::wire::c69_c71_packets_towards_an_ipv4_target_are_whole_and_not_ect", || async {
        seen_on_the_wire("127.0.0.1").await;
    });
}

#[test]
fn c69_c71_packets_towards_an_ipv6_target_are_whole_and_not_ect() {
    in_namespace("udp::wire::c69_c71_packets_towards_an_ipv6_target_are_whole_and_not_ect", || async { seen_on_the_wire("::1").await });
}

/// A device of 1500 bytes carries what fits it, in one piece; what does not fit is dropped, not cut up.
async fn seen_on_the_wire(host: &str) {
    crate::support::namespace::ip("link set lo mtu 1500");
    let mut wire = Capture::start();
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::start(host.parse().unwrap(), |payload| vec![payload.to_vec()]).await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, &[7; 1200]).await;

    // 4000 bytes would need three fragments.
    tunnel.send_capsule(&[8; 4000]).await.unwrap();
    until("the packet to be dropped", || relay.metrics().lost(Way::Out, Loss::TooBig), |lost| *lost == 1).await;
    // And many at once, which go as one run: the kernel cuts that into packets, not into fragments.
    for number in 0..8 {
        tunnel.send(&[number; 1000]).unwrap();
    }
    until("all to arrive", || payloads(&echo).len(), |count| *count == 9).await;

    let seen = wire.towards(echo.address());
    assert!(!seen.is_empty(), "the wire was not watched");
    for packet in &seen {
        assert!(packet.whole, "a fragment, or a packet that may become some: {packet:?}");
        assert_eq!(packet.ecn, 0, "not Not-ECT: {packet:?}");
    }
    relay.finish().await;
}

#[test]
fn c71_a_targets_ecn_marks_change_nothing() {
    in_namespace("udp::wire::c71_a_targets_ecn_marks_change_nothing", || async {
        let relay = Relay::spawn(|_| {}).await;
        let target = UdpTarget::silent().await;
        let client = relay.client().await;
        let mut tunnel = open_udp(&client, &target).await;
        let upstream = upstream(&mut tunnel, &target).await;
        for mark in 0..4 {
            target.mark(mark);
            target.send(&[u8::try_from(mark).unwrap(); 100], upstream).await;
            assert_eq!(tunnel.recv().await.unwrap().payload, vec![u8::try_from(mark).unwrap(); 100]);
        }
        assert_eq!(relay.metrics().packets[Way::Back as usize], 4);
        relay.finish().await;
    });
}

/// Every IP packet that crosses a device of this network, from now on.
struct Capture(Socket);

/// A UDP packet as its IP header says it.
#[derive(Debug)]
struct Packet {
    /// No fragment; and on IPv4, with DF.
    whole: bool,
    /// The two bits of ECN.
    ecn: u8,
    to: u16,
}

impl Capture {
    fn start() -> Self {
        let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        // "Datagram" means: from the IP header on.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(every)).expect("this network's own root may look");
        socket.set_nonblocking(true).unwrap();
        SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        Self(socket)
    }

    /// What has gone to `target`. On IPv6 anything that is not plain UDP (a fragment's header, say) counts as not whole.
    fn towards(&mut self, target: SocketAddr) -> Vec<Packet> {
        let mut buffer = vec![0; 65_536];
        let mut seen = Vec::new();
        while let Ok(length) = self.0.read(&mut buffer) {
            seen.extend(Packet::parse(&buffer[..length]).filter(|packet| !packet.whole || packet.to == target.port()));
        }
        seen
    }
}

impl Packet {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let port = |at: usize| bytes.get(at + 2..at + 4).map(|port| u16::from_be_bytes([port[0], port[1]]));
        match bytes.first()? >> 4 {
            4 if bytes.get(9) == Some(&17) => {
                let flags = u16::from_be_bytes([bytes[6], bytes[7]]);
                // DF and nothing else: no more fragments, no offset. The relay's packets to its client have it too.
                Some(Self { whole: flags == 0x4000, ecn: bytes[1] & 3, to: port(usize::from(bytes[0] & 15) * 4)? })
            }
            6 if bytes.get(6) == Some(&17) => Some(Self { whole: true, ecn: bytes[1] >> 4 & 3, to: port(40)? }),
            6 if bytes.get(6) == Some(&44) => Some(Self { whole: false, ecn: 0, to: 0 }),
            _ => None,
        }
    }
}
