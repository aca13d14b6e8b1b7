//! Which addresses are refused, whatever form they come in.

use std::net::IpAddr;

use masque_relay::{config::Rule, probe::Http, refusal::Denial};

use crate::support::{
    Client, Relay, on_versions,
    request::{Fields, answer_to, assert_refused, path, refusal, tcp, udp},
    tcp::TcpEcho,
    tunnels::assert_works,
};

on_versions!(c31_the_default_policy_refuses_addresses_that_are_not_public: h1 h2 h3);

async fn c31_the_default_policy_refuses_addresses_that_are_not_public(http: Http) {
    let relay = Relay::spawn(|config| config.rules.allow_private = false).await;
    let client = relay.client_over(http).await;
    for ip in [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "100::1",
        "2001:2::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert_prohibited(&relay, &client, ip).await;
    }
    relay.finish().await;
}

on_versions!(c31_the_relay_itself_is_no_target: h1 h2 h3);

async fn c31_the_relay_itself_is_no_target(http: Http) {
    // Whatever else is open.
    let everything = Rule { allow: true, networks: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], ..Rule::default() };
    let relay = Relay::spawn_dual(|config| config.rules.list = vec![everything]).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    let [four, six] = [relay.addresses()[0].port(), relay.addresses()[1].port()];
    for (ip, port) in [("127.0.0.1", four), ("::ffff:127.0.0.1", four), ("::127.0.0.1", four), ("0.0.0.0", four), ("::1", six), ("::", six)]
    {
        for fields in forms(&relay, &client, ip, port) {
            let (status, proxy_status) = refusal(&client, fields.clone(), ip).await;
            assert_eq!((status, proxy_status.as_str()), (502, "masque-relay;error=destination_ip_prohibited"), "{fields:?}");
        }
    }
    assert_works(&client, &echo).await;
    relay.finish().await;
}

on_versions!(c32_the_default_policy_sees_embedded_addresses: h1 h2 h3);

async fn c32_the_default_policy_sees_embedded_addresses(http: Http) {
    let relay = Relay::spawn(|config| config.rules.allow_private = false).await;
    let client = relay.client_over(http).await;
    for ip in [
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        // Which of its bits are the address is its operator's to know.
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:808:8:800::",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        // Teredo: the client's address is inverted.
        "2001:0:102:304::80ff:fffe",
        "2001:0:102:304::f5ff:fffe",
    ] {
        assert_prohibited(&relay, &client, ip).await;
    }
    relay.finish().await;
}

on_versions!(c32_a_rule_for_ipv4_holds_for_embedded_addresses: h1 h2 h3);

async fn c32_a_rule_for_ipv4_holds_for_embedded_addresses(http: Http) {
    let eights = Rule { networks: vec!["8.8.8.0/24".parse().unwrap()], denial: Some(Denial::Forbidden), ..Rule::default() };
    // Private addresses are open, so that it is this rule alone which refuses.
    let relay = Relay::spawn(|config| config.rules.list = vec![eights]).await;
    let client = relay.client_over(http).await;
    for (denied, not) in [
        ("8.8.8.8", "8.8.9.8"),
        ("::ffff:8.8.8.8", "::ffff:8.8.9.8"),
        ("::8.8.8.8", "::8.8.9.8"),
        ("64:ff9b::8.8.8.8", "64:ff9b::8.8.9.8"),
        ("2002:808:808::1", "2002:808:908::1"),
        ("2001:0:102:304::f7f7:f7f7", "2001:0:102:304::f7f7:f6f7"),
    ] {
        for fields in forms(&relay, &client, denied, 443) {
            assert_refused(&client, fields, 403, "http_request_denied", denied).await;
        }
        // Over UDP, which sends nothing: there may or may not be a route.
        let [.., udp] = forms(&relay, &client, not, 443);
        let answer = answer_to(&client, udp, not).await;
        let routed = answer.field("proxy-status").unwrap();
        assert!(routed.contains("next-hop="), "{not}: {} {routed}", answer.status);
    }
    relay.finish().await;
}

async fn assert_prohibited(relay: &Relay, client: &Client, ip: &str) {
    for fields in forms(relay, client, ip, 443) {
        assert_refused(client, fields, 502, "destination_ip_prohibited", ip).await;
    }
}

/// Requests for an address: TCP and UDP, by a name and as it is.
fn forms(relay: &Relay, client: &Client, ip: &str, port: u16) -> [Fields; 4] {
    let address: IpAddr = ip.parse().unwrap();
    let name = format!("at{}.test", ip.replace([':', '.'], "-"));
    relay.dns.addresses(&name, &[address]);
    let authority = if address.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    let host = ip.replace(':', "%3A");
    let port = port.to_string();
    [tcp(client, &format!("{name}:{port}")), udp(client, &path(&name, &port)), tcp(client, &authority), udp(client, &path(&host, &port))]
}
