//! Section C: how a target is treated before the answer.

mod addresses;
mod families;
mod waits;

use std::net::{IpAddr, Ipv4Addr};

use hickory_resolver::proto::rr::RecordType;
use masque_relay::{
    config::{Config, Rule},
    probe::Http,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    Relay, descriptors,
    dns::Reply,
    on_versions,
    request::{ask, assert_refused, path, refusal, tcp, udp},
    tcp::{TcpEcho, read_to_end},
    tunnels::assert_echoes,
    udp::UdpTarget,
    within,
};

/// The one address that [`only_allowed`] lets through, and one it does not: both are this machine, so that a relay which dials the wrong one is
/// seen.
const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

on_versions!(c30_a_name_that_changes_its_address_never_leads_to_a_forbidden_one: h1 h2 h3);

async fn c30_a_name_that_changes_its_address_never_leads_to_a_forbidden_one(http: Http) {
    let relay = Relay::spawn(only_allowed).await;
    let client = relay.client_over(http).await;
    let (allowed, forbidden) = echo_on_both().await;
    let replies = [ALLOWED, FORBIDDEN].map(|address| Reply::Addresses(vec![address]));
    relay.dns.addresses("flip.test", &[]);
    relay.dns.script("flip.test", RecordType::A, replies.to_vec());
    let fields = tcp(&client, &format!("flip.test:{}", allowed.address().port()));

    let mut tunnel = ask(&client, &fields).await.tcp().await.unwrap();
    assert_echoes(&mut tunnel).await;
    // AAAA and A: had the name been looked up again to dial it, the answer would have been the forbidden address.
    assert_eq!(relay.dns.count("flip.test"), 2);

    // The relay keeps what it knows for a second. From then on the name is at the forbidden address, and that is refused.
    let refused = within("the name to be looked up again", async {
        loop {
            match ask(&client, &fields).await.tcp().await {
                Ok(tunnel) => assert!(tunnel.answer.field("proxy-status").unwrap().contains("127.0.0.1:")),
                Err(error) => break error,
            }
        }
    })
    .await;
    let refused = refused.refused().unwrap_or_else(|| panic!("{refused}"));
    assert_eq!(refused.proxy_status.as_deref(), Some("masque-relay;error=destination_ip_prohibited"));
    assert_accepted_nothing(&forbidden).await;
    relay.finish().await;
}

on_versions!(c30_a_datagram_goes_to_the_address_that_was_vetted: h1 h2 h3);

async fn c30_a_datagram_goes_to_the_address_that_was_vetted(http: Http) {
    let relay = Relay::spawn(only_allowed).await;
    let client = relay.client_over(http).await;
    let allowed = UdpTarget::echo().await;
    relay.dns.addresses("flip.test", &[]);
    let replies = [ALLOWED, FORBIDDEN].map(|address| Reply::Addresses(vec![address]));
    relay.dns.script("flip.test", RecordType::A, replies.to_vec());

    let fields = udp(&client, &path("flip.test", &allowed.address().port().to_string()));
    let mut tunnel = ask(&client, &fields).await.udp().await.unwrap();
    tunnel.send_capsule(b"where to?").await.unwrap();
    assert_eq!(&tunnel.recv().await.unwrap().payload[..], b"where to?");
    assert_eq!(allowed.so_far().len(), 1);
    assert_eq!(relay.dns.count("flip.test"), 2);
    relay.finish().await;
}

on_versions!(c33_only_the_allowed_addresses_of_a_name_are_tried: h1 h2 h3);

async fn c33_only_the_allowed_addresses_of_a_name_are_tried(http: Http) {
    let relay = Relay::spawn(only_allowed).await;
    let client = relay.client_over(http).await;
    let (allowed, forbidden) = echo_on_both().await;
    let port = allowed.address().port();
    relay.dns.addresses("mixed.test", &[FORBIDDEN, ALLOWED, "127.0.0.3".parse().unwrap(), "::1".parse().unwrap()]);
    let mut tunnel = ask(&client, &tcp(&client, &format!("mixed.test:{port}"))).await.tcp().await.unwrap();
    assert_echoes(&mut tunnel).await;
    drop((allowed, tunnel));

    // Nobody listens at the allowed address, somebody at the forbidden one. That is no reason to go there.
    descriptors::none_towards((ALLOWED, port).into()).await;
    let (status, proxy_status) = refusal(&client, tcp(&client, &format!("mixed.test:{port}")), "closed").await;
    assert_eq!((status, proxy_status), (502, format!("masque-relay;error=connection_refused;next-hop=\"127.0.0.1:{port}\"")));
    assert_accepted_nothing(&forbidden).await;

    let tunnel = ask(&client, &udp(&client, &path("mixed.test", "9"))).await.udp().await.unwrap();
    assert_eq!(descriptors::towards((ALLOWED, 9).into()).len(), 1);
    assert_eq!(descriptors::towards((FORBIDDEN, 9).into()), []);
    drop(tunnel);

    relay.dns.addresses("none.test", &[FORBIDDEN, "::1".parse().unwrap()]);
    for fields in [tcp(&client, &format!("none.test:{port}")), udp(&client, &path("none.test", "9"))] {
        assert_refused(&client, fields, 502, "destination_ip_prohibited", "no address is allowed").await;
    }
    relay.finish().await;
}

/// Of all that is not public, [`ALLOWED`] is open.
fn only_allowed(config: &mut Config) {
    config.rules.allow_private = false;
    config.rules.list = vec![Rule { allow: true, networks: vec![ALLOWED.into()], ..Rule::default() }];
}

/// Echoes at [`ALLOWED`] and at [`FORBIDDEN`], on the same port.
async fn echo_on_both() -> (TcpEcho, TcpEcho) {
    let allowed = async || TcpEcho::start_at(ALLOWED).await;
    let (allowed, forbidden) = TcpEcho::start_beside(FORBIDDEN, allowed, |allowed| allowed.address().port()).await;
    (allowed, forbidden)
}

/// Nobody but this function has ever connected: what came before it would have been accepted before it.
async fn assert_accepted_nothing(echo: &TcpEcho) {
    let mut own = TcpStream::connect(echo.address()).await.unwrap();
    own.write_all(b"?").await.unwrap();
    own.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut own).await.unwrap(), b"?");
    assert_eq!(echo.accepted(), 1);
}
