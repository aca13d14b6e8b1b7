//! Two relays, one behind the other: in a UDP tunnel through the first a client speaks HTTP/3 to the second, and through that to its target.

use std::sync::Arc;

use bytes::Bytes;
use masque_relay::{
    metrics::{Loss, Snapshot, Way},
    proto::codes::h3,
};

use crate::support::{Client, Relay, tcp::TcpEcho, udp::UdpTarget, via::Via};

/// Both relays, and the client of the first with its tunnel to the second.
struct Chain {
    first: Relay,
    second: Relay,
    outer: Client,
    via: Arc<Via>,
}

impl Chain {
    /// Over an outer path that stays at packets of `mtu` bytes both ways, as it is in its first round trip; the second relay's first packets have `initial`.
    async fn start(mtu: u16, initial: u16) -> Self {
        let first = Relay::spawn(|config| config.quic.initial_mtu = mtu).await;
        let second = Relay::spawn(|config| config.quic.initial_mtu = initial).await;
        let outer = first.client_with(|options| {
            (options.max_udp_payload, options.initial_mtu, options.mtu_discovery) = (mtu, mtu, false);
        });
        let outer = outer.await;
        let tunnel = outer.connect_udp("127.0.0.1", second.address().port()).await.unwrap();
        let via = Via::new(&outer, tunnel, second.address());
        Self { first, second, outer, via }
    }

    /// The inner connection, its first packets of `initial` bytes. It says that it takes packets of `most` bytes.
    async fn inner(&self, initial: u16, most: u16) -> Client {
        let mut options = self.second.options();
        options.over = Some(self.via.clone());
        options.initial_mtu = initial;
        options.max_udp_payload = most;
        self.second.open(options).await
    }

    /// Half a megabyte through CONNECT and a payload through CONNECT-UDP, there and back, over both relays.
    async fn carries(&self, inner: &Client) {
        let (tcp, udp) = (TcpEcho::start().await, UdpTarget::echo().await);
        let sent: Bytes = (0..1_u32 << 17).flat_map(u32::to_be_bytes).collect();
        let (mut send, mut recv) = inner.connect_tcp(&tcp.address().to_string()).await.unwrap().split();
        let there = async {
            send.send(sent.clone()).await.unwrap();
            send.finish().unwrap();
        };
        let ((), back) = tokio::join!(there, recv.read_to_end(sent.len()));
        assert!(back.unwrap() == sent, "what came back is not what was sent");

        let mut tunnel = inner.connect_udp("127.0.0.1", udp.address().port()).await.unwrap();
        tunnel.send(b"two hops").unwrap();
        assert_eq!(tunnel.recv().await.unwrap().payload, "two hops");
    }

    /// Packets that the first relay found too large, out and back.
    fn too_big(&self) -> [u64; 2] {
        [Way::Out, Way::Back].map(|way| self.first.metrics().lost(way, Loss::TooBig))
    }

    /// Every packet so far came through, so that no timer had to run out.
    fn assert_nothing_was_lost(&self) {
        assert_eq!(self.first.metrics().dropped, Snapshot::default().dropped);
        assert_eq!(self.outer.overflown_datagrams(), 0);
    }

    async fn finish(mut self, inner: Client) {
        inner.close(h3::NO_ERROR, b"");
        self.second.stop().await;
        drop(self.second);
        self.first.finish().await;
    }
}

#[tokio::test]
async fn two_hops_carry_packets_of_1200_bytes_from_the_first_round_trip() {
    // Both relays as they are by default.
    let chain = Chain::start(1350, 1350).await;
    let inner = chain.inner(1200, 1200).await;
    chain.assert_nothing_was_lost();
    chain.carries(&inner).await;
    assert_eq!(chain.too_big(), [0, 0]);
    chain.finish(inner).await;
}

#[tokio::test]
async fn an_inner_connection_that_knows_what_the_first_hop_carries_loses_nothing() {
    let chain = Chain::start(1280, 1350).await;
    let room = chain.via.room();
    assert!((1200..1280).contains(&room), "{room}");
    let inner = chain.inner(1200, room).await;
    chain.assert_nothing_was_lost();
    chain.carries(&inner).await;
    assert_eq!(chain.too_big(), [0, 0]);
    let path = inner.quinn().stats().path;
    assert!(path.current_mtu <= room && path.black_holes_detected == 0, "{path:?}");
    chain.finish(inner).await;
}

#[tokio::test]
async fn a_second_relay_whose_first_packets_are_40_bytes_smaller_fits_the_first() {
    let chain = Chain::start(1350, 1310).await;
    assert_eq!(chain.via.room(), 1310);
    // The client says nothing of what fits.
    let inner = chain.inner(1310, 1500).await;
    // ClientHello in two frames and Finished: neither was sent again. (The first hop may have dropped a probe of the second relay's by now.)
    assert_eq!(inner.quinn().stats().frame_tx.crypto, 3);
    // And a QUIC handshake fits in that connection in turn.
    let udp = UdpTarget::echo().await;
    let mut tunnel = inner.connect_udp("127.0.0.1", udp.address().port()).await.unwrap();
    tunnel.send(&[3; 1200]).unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload[..], [3; 1200]);
    chain.carries(&inner).await;
    // The second relay has looked for more, and lost nothing but its probes.
    assert_eq!(inner.quinn().stats().path.black_holes_detected, 0);
    chain.finish(inner).await;
}

#[tokio::test]
async fn an_inner_handshake_too_large_for_the_first_hop_is_late_and_whole() {
    let chain = Chain::start(1350, 1350).await;
    // The second relay's answer does not fit: its timer, a second without a round trip to go by, sends it again in 1200 bytes.
    let inner = chain.inner(1200, 1500).await;
    let ([out, back], crypto) = (chain.too_big(), inner.quinn().stats().frame_tx.crypto);
    assert!(out == 0 && back > 0 && crypto > 3, "{out} {back} {crypto}");
    chain.carries(&inner).await;
    chain.finish(inner).await;
}
