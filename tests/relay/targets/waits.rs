//! What a request waits for, for how long, and who does not wait with it.

use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::proto::op::ResponseCode;
use masque_relay::{ended::Reset, probe::Http};
use tokio::time::timeout;

use crate::support::{
    Relay, descriptors,
    dns::Reply,
    on_versions,
    request::{ask, assert_refused, path, success, tcp, udp},
    tcp::{TcpBlackHole, TcpEcho},
    tunnels::{assert_echoes, assert_works},
    until,
};

on_versions!(c29_success_waits_for_the_name_and_the_socket: h1 h2 h3);

async fn c29_success_waits_for_the_name_and_the_socket(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    let port = echo.address().port();
    let held = |reply| Reply::Held(Box::new(reply));
    relay.dns.always("slow.test", &held(Reply::Addresses(vec![echo.address().ip()])));
    relay.dns.always("none.test", &held(Reply::Error(ResponseCode::NXDomain)));

    let mut waiting = Vec::new();
    for (host, there) in [("slow.test", true), ("none.test", false)] {
        for fields in [tcp(&client, &format!("{host}:{port}")), udp(&client, &path(host, &port.to_string()))] {
            let status = if there { success(&client, &fields) } else { 502 };
            waiting.push((ask(&client, &fields).await, status));
        }
        relay.dns.asked(host, 2).await;
    }
    // All wait at the same time, so half a second is enough for all.
    let early = timeout(
        Duration::from_millis(500),
        futures_util::future::select_all(waiting.iter_mut().map(|(exchange, _)| Box::pin(exchange.answer()))),
    );
    assert!(early.await.is_err(), "an answer before the name is known");

    relay.dns.release();
    for (mut exchange, status) in waiting {
        assert_eq!(exchange.answer().await.unwrap().status, status);
        if status < 300 {
            assert!(!descriptors::towards(echo.address()).is_empty(), "the socket is there by then");
        }
    }
    relay.finish().await;
}

on_versions!(c35_nothing_slow_delays_another_stream: h2 h3);

async fn c35_nothing_slow_delays_another_stream(http: Http) {
    // Names, connects and heads have ten seconds, and no test has so much time.
    let relay = Relay::spawn(|config| config.timeouts.dns = Duration::from_secs(10)).await;
    let echo = TcpEcho::start().await;
    let hole = TcpBlackHole::start().await;
    let client = relay.client_over(http).await;
    relay.dns.always("slow.test", &Reply::Silence);

    let _name = ask(&client, &tcp(&client, "slow.test:80")).await;
    relay.dns.asked("slow.test", 2).await;
    assert_works(&client, &echo).await;
    let _connect = ask(&client, &tcp(&client, &hole.address().to_string())).await;
    until("the dial", || descriptors::towards(hole.address()).len(), |sockets| *sockets == 1).await;
    assert_works(&client, &echo).await;
    // A head of HTTP/2 comes in one piece: nothing else may stand between its frames (RFC 9113 §4.3).
    if http == Http::H3 {
        let mut head = client.exchange().await.unwrap();
        head.send.send_raw(Bytes::from_static(&[0x1, 0x40, 0x80, 0, 0])).await.unwrap();
        assert_works(&client, &echo).await;
    }
    relay.finish().await;
}

on_versions!(c36_names_and_connects_have_their_budgets: h1 h2 h3);

async fn c36_names_and_connects_have_their_budgets(http: Http) {
    let relay = Relay::spawn(|config| {
        config.timeouts.dns = Duration::from_millis(200);
        config.timeouts.connect = Duration::from_millis(400);
    })
    .await;
    let client = relay.client_over(http).await;
    relay.dns.always("silent.test", &Reply::Silence);
    for fields in [tcp(&client, "silent.test:80"), udp(&client, &path("silent.test", "9"))] {
        assert_refused(&client, fields, 504, "dns_timeout", "a name server that says nothing").await;
    }
    let hole = TcpBlackHole::start().await;
    assert_refused(&client, tcp(&client, &hole.address().to_string()), 504, "connection_timeout", "a target that says nothing").await;
    descriptors::none_towards(hole.address()).await;
    relay.finish().await;
}

on_versions!(c36_a_client_that_leaves_cancels_the_dial: h1 h2 h3);

async fn c36_a_client_that_leaves_cancels_the_dial(http: Http) {
    // The budget is ten seconds: what ends before does so because its client left.
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let hole = TcpBlackHole::start().await;
    let fields = tcp(&client, &hole.address().to_string());
    for way in ["reset", "stop"] {
        let mut exchange = ask(&client, &fields).await;
        until("the dial", || descriptors::towards(hole.address()).len(), |sockets| *sockets == 1).await;
        match way {
            "reset" => exchange.send.reset_as(Reset::Cancelled).unwrap(),
            _ => exchange.recv.stop_as(Reset::Cancelled).unwrap(),
        }
        descriptors::none_towards(hole.address()).await;
    }
    relay.finish().await;
}

on_versions!(c36_a_client_that_leaves_cancels_the_lookup: h1 h2 h3);

async fn c36_a_client_that_leaves_cancels_the_lookup(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    relay.dns.always("held.test", &Reply::Held(Box::new(Reply::Addresses(vec![echo.address().ip()]))));
    let mut exchange = ask(&client, &tcp(&client, &format!("held.test:{}", echo.address().port()))).await;
    relay.dns.asked("held.test", 2).await;
    exchange.send.reset_as(Reset::Cancelled).unwrap();
    relay.logged("request abandoned").await;

    relay.dns.release();
    // Another request for the same port, begun after the answer was let go: what the first might have dialled would have come before it.
    let mut tunnel = ask(&client, &tcp(&client, &format!("held.test:{}", echo.address().port()))).await.tcp().await.unwrap();
    assert_echoes(&mut tunnel).await;
    assert_eq!(echo.accepted(), 1);
    relay.finish().await;
}
