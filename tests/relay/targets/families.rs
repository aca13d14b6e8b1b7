//! Happy Eyeballs: two families, one of them broken.

use hickory_resolver::proto::rr::RecordType;
use masque_relay::probe::Http;

use crate::support::{
    Relay, descriptors,
    dns::Reply,
    on_versions,
    request::{answer_to, path, refusal, udp, values},
    tcp::{TcpBlackHole, TcpEcho},
    tunnels::assert_echoes,
};

on_versions!(c34_a_family_that_says_nothing_holds_up_neither_the_other_nor_the_request: h1 h2 h3);

async fn c34_a_family_that_says_nothing_holds_up_neither_the_other_nor_the_request(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for (name, ip, silent) in [("four.test", "127.0.0.1", RecordType::AAAA), ("six.test", "::1", RecordType::A)] {
        let echo = TcpEcho::start_at(ip.parse().unwrap()).await;
        relay.dns.addresses(name, &[echo.address().ip()]);
        relay.dns.script(name, silent, vec![Reply::Silence]);
        let mut tunnel = client.connect_tcp(&format!("{name}:{}", echo.address().port())).await.unwrap();
        assert_echoes(&mut tunnel).await;
    }
    relay.finish().await;
}

on_versions!(c34_a_black_hole_of_one_family_leaves_the_other: h1 h2 h3);

async fn c34_a_black_hole_of_one_family_leaves_the_other(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for (name, hole, echo) in [("both.test", "::1", "127.0.0.1"), ("two.test", "127.0.0.1", "127.0.0.2")] {
        let hole = async || TcpBlackHole::start_at(hole.parse().unwrap()).await;
        let (hole, echo) = TcpEcho::start_beside(echo.parse().unwrap(), hole, |hole| hole.address().port()).await;
        relay.dns.addresses(name, &[hole.address().ip(), echo.address().ip()]);
        let mut tunnel = client.connect_tcp(&format!("{name}:{}", hole.address().port())).await.unwrap();
        assert_echoes(&mut tunnel).await;
        assert_eq!(descriptors::towards(hole.address()), [], "the loser of the race is closed");
    }
    relay.finish().await;
}

on_versions!(c34_udp_takes_the_first_family_that_has_a_route: h1 h2 h3);

async fn c34_udp_takes_the_first_family_that_has_a_route(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    // To a link-local address without an interface no machine has a route.
    for (name, addresses, hop) in [("both.test", ["::1", "127.0.0.1"], "[::1]:9"), ("one.test", ["fe80::1", "127.0.0.1"], "127.0.0.1:9")] {
        relay.dns.addresses(name, &addresses.map(|address| address.parse().unwrap()));
        let answer = answer_to(&client, udp(&client, &path(name, "9")), name).await;
        assert!(answer.success() || answer.status == 101, "{name}: {}", answer.status);
        assert_eq!(values(&answer, "proxy-status"), [format!("masque-relay;next-hop=\"{hop}\"")]);
    }
    let (_, proxy_status) = refusal(&client, udp(&client, &path("fe80%3A%3A1", "9")), "no route").await;
    assert_eq!(proxy_status, "masque-relay;error=destination_ip_unroutable;next-hop=\"[fe80::1]:9\"");
    relay.finish().await;
}
