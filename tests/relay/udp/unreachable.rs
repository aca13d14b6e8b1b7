//! ICMP and other errors of the socket towards a target (C-68).

use masque_relay::{
    metrics::{Loss, Way},
    probe::{Http, StreamEnd},
};

use crate::support::{
    Relay, descriptors,
    namespace::{in_namespace, ip},
    on_versions,
    tunnels::{assert_echoes_udp, open_udp, payloads},
    udp::{self, UdpTarget},
    until,
};

on_versions!(c68_a_closed_port_ends_the_tunnel: h1 h2 h3);

async fn c68_a_closed_port_ends_the_tunnel(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let closed = udp::closed_port();
    let mut tunnel = client.connect_udp("127.0.0.1", closed.port()).await.unwrap();
    tunnel.send_either(b"anyone?").await.unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    descriptors::none_towards(closed).await;
    assert_eq!(relay.metrics().ended.get("unreachable"), Some(&1));
    relay.finish().await;
}

on_versions!(c68_a_packet_too_large_for_the_path_costs_itself: h1 h2 h3);

async fn c68_a_packet_too_large_for_the_path_costs_itself(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;
    // IPv4 has no packet for it: EMSGSIZE.
    tunnel.send_capsule(&vec![7; 65_527]).await.unwrap();
    tunnel.send_capsule(b"alive").await.unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload, "alive");
    assert_eq!(payloads(&echo), [b"alive"]);
    assert_eq!(relay.metrics().lost(Way::Out, Loss::TooBig), 1);
    assert_echoes_udp(&mut tunnel, b"the best way there is").await;
    relay.finish().await;
}

#[test]
fn c68_a_host_that_does_not_answer_ends_the_tunnel() {
    in_namespace("udp::unreachable::c68_a_host_that_does_not_answer_ends_the_tunnel", || async {
        network();
        // A neighbour is asked for a moment only.
        ip("ntable change name arp_cache dev here retrans 100 mcast_probes 1");
        let relay = Relay::spawn(|_| {}).await;
        let client = relay.client().await;
        let mut tunnel = client.connect_udp("192.0.2.2", 53).await.unwrap();
        tunnel.send(b"anyone?").unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
        relay.logged("No route to host").await;
        descriptors::none_towards("192.0.2.2:53".parse().unwrap()).await;
        relay.finish().await;
    });
}

#[test]
fn c68_a_route_that_is_gone_ends_the_tunnel_and_one_that_is_forbidden_does_not() {
    in_namespace("udp::unreachable::c68_a_route_that_is_gone_ends_the_tunnel_and_one_that_is_forbidden_does_not", || async {
        network();
        ip("neighbour add 192.0.2.2 lladdr 02:00:00:00:00:01 dev here nud permanent");
        let relay = Relay::spawn(|_| {}).await;
        let client = relay.client().await;
        let mut tunnel = client.connect_udp("192.0.2.2", 53).await.unwrap();

        ip("route add prohibit 192.0.2.2");
        tunnel.send(b"EACCES").unwrap();
        until("a packet to be refused", || relay.metrics().lost(Way::Out, Loss::Socket), |lost| *lost == 1).await;
        ip("route delete prohibit 192.0.2.2");
        tunnel.send(b"goes").unwrap();
        until("a packet to go", || relay.metrics().packets[Way::Out as usize], |sent| *sent == 1).await;

        ip("route add unreachable 192.0.2.2");
        tunnel.send(b"EHOSTUNREACH").unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
        relay.logged("No route to host").await;
        relay.finish().await;
    });
}

/// 192.0.2.0/24, with nobody in it but us.
fn network() {
    ip("link add here type veth peer name there");
    ip("address add 192.0.2.1/24 dev here");
    ip("link set here up");
    ip("link set there up");
}
