//! Section C: how a target is treated before the answer.

use std::time::Duration;

use masque_relay::probe::Client;
use tokio::{net::UdpSocket, time::timeout};

use crate::support::{
    Relay,
    request::{ask, assert_refused, path, tcp, udp},
    tcp::TcpEcho,
    within,
};

#[tokio::test]
async fn c29_success_waits_for_the_name() {
    let names = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = names.local_addr().unwrap();
    let relay = Relay::spawn(|config| config.dns.servers = vec![server]).await;
    let client = relay.client().await;
    for fields in [udp(&client, &path("slow.test", "9")), tcp(&client, "slow.test:9")] {
        let mut exchange = ask(&client, &fields).await;
        let mut query = [0; 512];
        let (length, from) = within("a question", names.recv_from(&mut query)).await.unwrap();
        let early = timeout(Duration::from_millis(500), exchange.answer()).await;
        assert!(early.is_err(), "an answer before the name is known");
        // Whatever else it asks is answered the same way: no such name.
        let answers = async {
            names.send_to(&no_such_name(&query[..length]), from).await.unwrap();
            loop {
                let (length, from) = names.recv_from(&mut query).await.unwrap();
                names.send_to(&no_such_name(&query[..length]), from).await.unwrap();
            }
        };
        let status = tokio::select! {
            () = answers => unreachable!("the loop has no end"),
            answer = exchange.answer() => answer.unwrap().status,
        };
        assert_eq!(status, 502, "a rejection, not a dead tunnel");
    }
    relay.finish().await;
}

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

#[tokio::test]
async fn c35_a_slow_name_delays_no_other_stream() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let relay = Relay::spawn(|config| config.dns.servers = vec![server]).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let _slow = ask(&client, &tcp(&client, "slow.test:80")).await;
    within("a question about the slow name", silent.recv_from(&mut [0; 512])).await.unwrap();

    let mut exchange = ask(&client, &tcp(&client, &echo.address().to_string())).await;
    // Well below any budget for names.
    let answer = timeout(Duration::from_secs(1), exchange.answer()).await.expect("an answer beside the slow one");
    assert_eq!(answer.unwrap().status, 200);
    relay.finish().await;
}

async fn assert_prohibited(client: &Client, ip: &str) {
    let authority = if ip.contains(':') { format!("[{ip}]:443") } else { format!("{ip}:443") };
    assert_refused(client, tcp(client, &authority), 502, "destination_ip_prohibited", ip).await;
    let host = ip.replace(':', "%3A");
    assert_refused(client, udp(client, &path(&host, "443")), 502, "destination_ip_prohibited", ip).await;
}

/// The answer NXDOMAIN to a DNS question.
fn no_such_name(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x83;
    answer
}
