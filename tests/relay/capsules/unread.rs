//! A client that does not read its capsules (C-65).

use std::{net::SocketAddr, time::Duration};

use masque_relay::{
    ended::Reset,
    metrics::{Loss, Way},
    probe::{Http, Means, UdpTunnel},
};
use tokio::time::interval;

use crate::support::{
    Client, Relay, on_versions,
    tunnels::{assert_echoes_udp, assert_reset, capsule_client, open_udp, upstream},
    udp::UdpTarget,
    until,
};

on_versions!(c65_whole_capsules_are_dropped_and_counted_and_none_is_cut: h1 h2 h3);

async fn c65_whole_capsules_are_dropped_and_counted_and_none_is_cut(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let mut unread = Unread::open(&relay, http).await;
    let packets = unread.fill(&relay).await;
    let counts = |relay: &Relay| (relay.metrics().packets[BACK], relay.metrics().lost(Way::Back, Loss::Unread));
    let (carried, _) = counts(&relay);
    if http != Http::H1 {
        // As many as the client's credit is worth, and not one more.
        assert_eq!(carried, u64::from(WINDOW) / 1000);
    }

    // What is left of them comes whole and in order, and what was dropped is between the one that was begun and those that waited.
    let (mut got, mut last) = (0, None);
    while last != Some(packets) {
        let packet = unread.tunnel.recv().await.unwrap();
        assert_eq!((packet.payload.len(), packet.means), (unread.size, Means::Capsule));
        let number = u64::from_be_bytes(packet.payload[..8].try_into().unwrap());
        assert!(last.is_none_or(|last| number > last) && (got > carried || number == got), "{number} after {last:?}");
        (got, last) = (got + 1, Some(number));
    }
    until("every packet to be accounted for", || counts(&relay), |(carried, lost)| (*carried, carried + lost) == (got, packets + 1)).await;
    // It goes on as if nothing had been.
    unread.target.send_now(&vec![9; unread.size], unread.upstream);
    assert_eq!(unread.tunnel.recv().await.unwrap().payload, vec![9; unread.size]);
    relay.finish().await;
}

on_versions!(c65_a_capsule_half_written_for_too_long_resets_the_stream_and_the_connection_lives: h1 h2 h3);

async fn c65_a_capsule_half_written_for_too_long_resets_the_stream_and_the_connection_lives(http: Http) {
    let relay = Relay::spawn(|config| config.timeouts.capsule_stall = Duration::from_millis(200)).await;
    let echo = UdpTarget::echo().await;
    let mut unread = Unread::open(&relay, http).await;
    unread.fill(&relay).await;
    unread.is_over(&relay, "stalled").await;
    let mut other = open_udp(&unread.client, &echo).await;
    assert_echoes_udp(&mut other, b"alive").await;
    relay.finish().await;
}

#[test]
fn c65_the_default_is_thirty_seconds() {
    assert_eq!(masque_relay::config::Config::default().timeouts.capsule_stall, Duration::from_secs(30));
}

on_versions!(c65_a_client_that_does_not_read_is_idle_however_much_its_target_sends: h1 h2 h3);

async fn c65_a_client_that_does_not_read_is_idle_however_much_its_target_sends(http: Http) {
    let relay = Relay::spawn(|config| config.timeouts.udp_idle = Duration::from_millis(500)).await;
    let mut unread = Unread::open(&relay, http).await;
    let mut ticks = interval(Duration::from_millis(20));
    while !relay.metrics().ended.contains_key("idle") {
        ticks.tick().await;
        unread.target.send_now(&vec![7; unread.size], unread.upstream);
    }
    unread.is_over(&relay, "idle").await;
    assert!(relay.metrics().lost(Way::Back, Loss::Unread) > 0, "else the client could have read it all");
    relay.finish().await;
}

on_versions!(c65_the_clients_own_end_is_no_clean_one_within_a_capsule: h1 h2 h3);

async fn c65_the_clients_own_end_is_no_clean_one_within_a_capsule(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let mut unread = Unread::open(&relay, http).await;
    unread.fill(&relay).await;
    unread.tunnel.finish().unwrap();
    unread.is_over(&relay, "client_finished").await;
    relay.finish().await;
}

const BACK: usize = Way::Back as usize;

/// Payload of a packet; its capsule has 1,000 bytes: context ID, type, length, and the DATA frame's header.
const SIZE: usize = 1000 - 1 - 1 - 2 - 5;

/// The same over HTTP/1.1, where there is no credit but TCP's: what is between two sockets on loopback is soon full of these.
const LARGE: usize = 60_000;

/// Credit of the client: three capsules and a half.
const WINDOW: u32 = 3_500;

/// A tunnel whose client takes capsules and does not read them.
struct Unread {
    client: Client,
    target: UdpTarget,
    tunnel: UdpTunnel,
    upstream: SocketAddr,
    /// Payload of a packet.
    size: usize,
}

impl Unread {
    async fn open(relay: &Relay, http: Http) -> Self {
        let (client, target) = (capsule_client(relay, http, WINDOW).await, UdpTarget::silent().await);
        let mut tunnel = open_udp(&client, &target).await;
        let upstream = upstream(&mut tunnel, &target).await;
        let size = if http == Http::H1 { LARGE } else { SIZE };
        Self { client, target, tunnel, upstream, size }
    }

    /// Sends numbered packets until one is dropped; gives the number of the last.
    async fn fill(&self, relay: &Relay) -> u64 {
        let mut number = 0_u64;
        let send = || {
            let mut packet = vec![0; self.size];
            packet[..8].copy_from_slice(&number.to_be_bytes());
            self.target.send_now(&packet, self.upstream);
            number += 1;
            relay.metrics().lost(Way::Back, Loss::Unread)
        };
        until("a capsule to be dropped", send, |lost| *lost > 0).await;
        number - 1
    }

    /// Waits for the relay to end the tunnel for this reason, before the client reads anything; then the stream was reset.
    async fn is_over(&mut self, relay: &Relay, why: &str) {
        until("the tunnel's end", || relay.metrics().ended, |ended| ended.get(why) == Some(&1)).await;
        assert_reset(&self.tunnel.ended().await, self.client.http(), Reset::Cancelled, why);
    }
}
