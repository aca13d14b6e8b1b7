//! What a request waits for, for how long, and who does not wait with it.

use std::time::Duration;

use masque_relay::proto::codes::h3;
use tokio::{net::UdpSocket, time::timeout};

use crate::support::{
    Relay, descriptors,
    dns::Reply,
    ends::assert_echoes,
    request::{ask, assert_refused, path, tcp, udp},
    tcp::{TcpBlackHole, TcpEcho},
    until, within,
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

#[tokio::test]
async fn c36_names_and_connects_have_their_budgets() {
    let relay = Relay::spawn(|config| {
        config.timeouts.dns = Duration::from_millis(200);
        config.timeouts.connect = Duration::from_millis(400);
    })
    .await;
    let client = relay.client().await;
    relay.dns.always("silent.test", &Reply::Silence);
    for fields in [tcp(&client, "silent.test:80"), udp(&client, &path("silent.test", "9"))] {
        assert_refused(&client, fields, 504, "dns_timeout", "a name server that says nothing").await;
    }
    let hole = TcpBlackHole::start().await;
    assert_refused(&client, tcp(&client, &hole.address().to_string()), 504, "connection_timeout", "a target that says nothing").await;
    descriptors::none_towards(hole.address()).await;
    relay.finish().await;
}

#[tokio::test]
async fn c36_a_client_that_leaves_cancels_the_dial() {
    // The budget is ten seconds: what ends before does so because its client left.
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let hole = TcpBlackHole::start().await;
    let fields = tcp(&client, &hole.address().to_string());
    for way in ["reset", "stop"] {
        let mut exchange = ask(&client, &fields).await;
        until("the dial", || descriptors::towards(hole.address()).len(), |sockets| *sockets == 1).await;
        match way {
            "reset" => exchange.send.reset(h3::REQUEST_CANCELLED).unwrap(),
            _ => exchange.recv.stop(h3::REQUEST_CANCELLED).unwrap(),
        }
        descriptors::none_towards(hole.address()).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c36_a_client_that_leaves_cancels_the_lookup() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    relay.dns.always("held.test", &Reply::Held(Box::new(Reply::Addresses(vec![echo.address().ip()]))));
    let mut exchange = ask(&client, &tcp(&client, &format!("held.test:{}", echo.address().port()))).await;
    relay.dns.asked("held.test", 2).await;
    exchange.send.reset(h3::REQUEST_CANCELLED).unwrap();
    relay.logged("request abandoned").await;

    relay.dns.release();
    // Another request for the same port, begun after the answer was let go: what the first might have dialled would have come before it.
    let mut tunnel = ask(&client, &tcp(&client, &format!("held.test:{}", echo.address().port()))).await.tcp().await.unwrap();
    assert_echoes(&mut tunnel).await;
    assert_eq!(echo.accepted(), 1);
    relay.finish().await;
}

/// The answer NXDOMAIN to a DNS question.
fn no_such_name(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x83;
    answer
}
