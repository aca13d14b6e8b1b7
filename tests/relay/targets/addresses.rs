//! Which addresses are refused, whatever form they come in.

use masque_relay::probe::Client;

use crate::support::{
    Relay,
    request::{assert_refused, path, tcp, udp},
};

#[tokio::test]
async fn c31_the_default_policy_refuses_addresses_that_are_not_public() {
    let relay = Relay::spawn(|config| config.rules.allow_private = false).await;
    let client = relay.client().await;
    for ip in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00::1",
        "2001:db8::1",
        "ff02::1",
    ] {
        assert_prohibited(&client, ip).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c32_the_policy_sees_embedded_addresses() {
    let relay = Relay::spawn(|config| config.rules.allow_private = false).await;
    let client = relay.client().await;
    for ip in [
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "2002:7f00:1::1",
        "2002:a00:1::1",
    ] {
        assert_prohibited(&client, ip).await;
    }
    relay.finish().await;
}

async fn assert_prohibited(client: &Client, ip: &str) {
    let authority = if ip.contains(':') { format!("[{ip}]:443") } else { format!("{ip}:443") };
    assert_refused(client, tcp(client, &authority), 502, "destination_ip_prohibited", ip).await;
    let host = ip.replace(':', "%3A");
    assert_refused(client, udp(client, &path(&host, "443")), 502, "destination_ip_prohibited", ip).await;
}
