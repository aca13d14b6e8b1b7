//! A small strict client of HTTP/3, HTTP/2 and HTTP/1.1, for the `probe` command, the tests, the benches and later `doctor`.
//!
//! ```text
//! Options ──▶ Client::open ──▶ connect_tcp ──▶ TcpTunnel   send, recv, finish, reset, stop
//!   http                  ├──▶ connect_udp ──▶ UdpTunnel   send_either, send_capsule, recv (which means); HTTP/3: send (DATAGRAM)
//!                         └──▶ request ──────▶ RawExchange whatever a test needs, over HTTP/3 also what is wrong
//! ```
//!
//! One body of a test serves every version: [`Http`] says which, and the halves of a stream hide the difference (`stream` says how). HTTP/3 is on
//! raw quinn with its own framing (`h3`), HTTP/2 on the h2 crate (`h2`), HTTP/1.1 on TLS itself (`h1`).
//!
//! Three promises:
//!
//! 1. *Strict.* A relay that breaks a rule of RFC 9114, 9204 or 9297 that this client can see ends the connection with the right code, and
//!    every wait says which rule it was. Over HTTP/2 the h2 crate judges frames and this client tunnels; over HTTP/1.1 there are only heads and
//!    capsules to judge.
//! 2. *No wait is for ever*: [`Options::timeout`] and [`Options::patience`] bound each, and every queue has an end.
//! 3. *Nothing is left behind.* Dropping a [`Client`] closes its connection, over HTTP/3 with H3_NO_ERROR, and ends its tasks; dropping a half of a
//!    stream resets or stops it as cancelled unless it is over.

mod client;
mod error;
mod exchange;
mod h1;
mod h2;
mod h3;
mod options;
mod parameters;
mod picky;
mod judge;
mod pin;
mod shared;
mod stream;
mod tcp;
mod tickets;
mod tunnel;
mod url;
mod version;

pub use client::{Client, Closer, SettingsTiming};
pub use error::{Closed, CriticalEnd, Layer, ProbeError, Refused, StreamEnd, Violation};
pub use exchange::{Answer, RawExchange};
pub use h3::{Control, STRAYS_KEPT};
pub use judge::Judge;
pub use options::{Options, SettingsWhen};
pub use parameters::Parameters;
pub use stream::{RecvHalf, SendHalf};
pub use tickets::{MAX_TICKETS, Tickets};
pub use tunnel::{Means, Packet, STRANGE_KEPT, TcpTunnel, UdpTunnel};
pub use version::Http;

/// Opens a connection to the relay at `https://HOST[:PORT][/TEMPLATE]`; `change` gets the options before they are used, to add trust and
/// credentials.
///
/// # Errors
/// Those of [`Options::resolve`], of `change`, and of [`Client::open`].
pub async fn connect_url(url: &str, change: impl FnOnce(&mut Options) -> Result<(), ProbeError>) -> Result<Client, ProbeError> {
    let mut options = Options::resolve(url).await?;
    change(&mut options)?;
    Client::open(options).await
}

#[cfg(test)]
mod fake;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::fake::{Fake, control, good_settings, head, uni};
    use super::*;
    use crate::proto::{
        codes::h3,
        frame,
        settings::{H3_DATAGRAM, Settings},
    };

    /// The client closed the connection with `code`, and says why.
    async fn assert_violation(client: &Client, connection: &quinn::Connection, code: u64, what: &str) {
        let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("{what}") };
        assert_eq!(close.error_code.into_inner(), code, "{what}: {:?}", close.reason);
        let violation = client.violation().expect(what);
        assert_eq!((violation.code, violation.rule.as_bytes()), (code, &close.reason[..]), "{what}");
        let error = client.goaway(99).await.unwrap_err();
        assert!(matches!(error, ProbeError::Violation(ref seen) if *seen == violation), "{what}: {error}");
    }

    #[tokio::test]
    async fn a_broken_rule_of_the_relays_streams_closes_the_connection() {
        let fake = Fake::start(false);
        let goaway = |id: u8| frame::encode(frame::GOAWAY, &[id]);
        let with = |frames: &[u8]| control(&[&good_settings(), frames].concat());
        for (bytes, code, what) in [
            (control(&goaway(0)), h3::MISSING_SETTINGS, "GOAWAY first"),
            (control(&frame::encode(0x21, b"")), h3::MISSING_SETTINGS, "an unknown frame first"),
            (control(&frame::encode(frame::SETTINGS, &[0x33])), h3::FRAME_ERROR, "SETTINGS that end inside a pair"),
            (control(&frame::encode(frame::SETTINGS, &[0x33, 2])), h3::SETTINGS_ERROR, "0x33 = 2"),
            (control(&[0x4, 0x80, 0, 0x40, 0x01]), h3::EXCESSIVE_LOAD, "SETTINGS of 16 KiB and a byte"),
            (with(&good_settings()), h3::FRAME_UNEXPECTED, "SETTINGS twice"),
            (with(&frame::encode(frame::DATA, b"x")), h3::FRAME_UNEXPECTED, "DATA"),
            (with(&frame::encode(frame::HEADERS, b"x")), h3::FRAME_UNEXPECTED, "HEADERS"),
            (with(&frame::encode(0xd, &[0])), h3::FRAME_UNEXPECTED, "MAX_PUSH_ID"),
            (with(&frame::encode(0x3, &[0])), h3::ID_ERROR, "CANCEL_PUSH"),
            (with(&frame::encode(0x6, &[0; 8])), h3::FRAME_UNEXPECTED, "HTTP/2's PING"),
            (with(&goaway(1)), h3::ID_ERROR, "GOAWAY with a server's stream"),
            (with(&[goaway(4), goaway(8)].concat()), h3::ID_ERROR, "GOAWAY that grows"),
            (with(&frame::encode(frame::GOAWAY, &[0, 0])), h3::FRAME_ERROR, "GOAWAY with a byte too many"),
            (with(&frame::encode(frame::GOAWAY, &[0x40])), h3::FRAME_ERROR, "GOAWAY with half an integer"),
            (vec![0x1, 0], h3::ID_ERROR, "a push stream"),
            (vec![0x2, 0x3f, 0xe1, 0x1f], h3::QPACK_ENCODER_STREAM_ERROR, "a dynamic table of 4096 bytes"),
        ] {
            let (client, connection) = fake.pair(fake.options()).await;
            let _held = uni(&connection, &bytes).await;
            assert_violation(&client, &connection, code, what).await;
        }
    }

    #[tokio::test]
    async fn a_critical_stream_stays_open_and_single() {
        let fake = Fake::start(false);
        for kind in [0_u8, 2, 3] {
            let start: Vec<u8> = if kind == 0 { control(&good_settings()) } else { vec![kind] };

            let (client, connection) = fake.pair(fake.options()).await;
            uni(&connection, &start).await.finish().unwrap();
            assert_violation(&client, &connection, h3::CLOSED_CRITICAL_STREAM, &format!("FIN on {kind}")).await;

            let (client, connection) = fake.pair(fake.options()).await;
            let _held = (uni(&connection, &start).await, uni(&connection, &start).await);
            assert_violation(&client, &connection, h3::STREAM_CREATION_ERROR, &format!("{kind} twice")).await;
        }
    }

    #[tokio::test]
    async fn what_a_relay_may_do_is_no_violation() {
        let fake = Fake::start(false);
        let (client, connection, mut control) = fake.good_pair(fake.options()).await;
        // GREASE of every kind, a stream that ends before its type, an encoder that sets its table to nothing, GOAWAYs that shrink.
        let _held = (uni(&connection, &[0x21, 1, 2, 3]).await, uni(&connection, &[0x2, 0x20]).await, uni(&connection, &[0x3]).await);
        uni(&connection, &[0x40]).await.finish().unwrap();
        control.write_all(&frame::encode(0x40 + 0x1f * 7 + 0x21, &[0; 5000])).await.unwrap();
        control
            .write_all(
                &[frame::encode(frame::GOAWAY, &[8]), frame::encode(frame::GOAWAY, &[8]), frame::encode(frame::GOAWAY, &[4])].concat(),
            )
            .await
            .unwrap();

        assert_eq!(client.goaway(3).await.unwrap(), 4);
        assert_eq!(client.goaways(), [8, 8, 4]);
        assert_eq!((client.violation(), client.quinn().close_reason()), (None, None));
        assert!(client.settings_timing().unwrap().settings >= client.handshake());
    }

    #[tokio::test]
    async fn a_datagram_before_our_settings_is_a_violation() {
        let fake = Fake::start(false);
        let mut options = fake.options();
        options.settings_when = SettingsWhen::Withheld;
        let (client, connection, _control) = fake.good_pair(options).await;
        connection.send_datagram(Bytes::from_static(&[0, 0, 1])).unwrap();
        assert_violation(&client, &connection, h3::DATAGRAM_ERROR, "a datagram too early").await;
    }

    #[tokio::test]
    async fn a_datagram_without_quarter_id_is_a_violation() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        connection.send_datagram(Bytes::from_static(&[0x40])).unwrap();
        assert_violation(&client, &connection, h3::DATAGRAM_ERROR, "half a quarter stream ID").await;
    }

    #[tokio::test]
    async fn an_answer_that_breaks_a_rule_is_a_violation() {
        let fake = Fake::start(false);
        let tail = |bytes: &[u8]| [&head(&[(":status", "200")]), bytes].concat();
        for (bytes, udp, code, what) in [
            (head(&[("server", "x")]), false, h3::MESSAGE_ERROR, "no :status"),
            (head(&[(":status", "20")]), false, h3::MESSAGE_ERROR, "a status of two digits"),
            (frame::encode(frame::HEADERS, &[0, 0, 0x80]), false, h3::QPACK_DECOMPRESSION_FAILED, "a dynamic reference"),
            (frame::encode(frame::DATA, b"x"), false, h3::FRAME_UNEXPECTED, "DATA first"),
            (vec![0x1, 5, 0], false, h3::FRAME_ERROR, "FIN inside HEADERS"),
            (tail(&head(&[(":status", "200")])), false, h3::FRAME_UNEXPECTED, "HEADERS in a tunnel"),
            (tail(&[0x0, 5, 1]), false, h3::FRAME_ERROR, "FIN inside DATA"),
            (head(&[(":status", "200"), ("content-length", "0")]), true, h3::MESSAGE_ERROR, "content-length"),
            (tail(&[0x0, 2, 0x0, 5]), true, h3::MESSAGE_ERROR, "FIN inside a capsule"),
            (tail(&[0x0, 2, 0x0, 0]), true, h3::DATAGRAM_ERROR, "a capsule without context"),
        ] {
            let (client, connection, _control) = fake.good_pair(fake.options()).await;
            let serve = async {
                let (mut send, _recv) = connection.accept_bi().await.unwrap();
                send.write_all(&bytes).await.unwrap();
                // The client may have closed the connection by now.
                send.finish().ok();
                connection.closed().await
            };
            let ask = async {
                if udp {
                    let Ok(mut tunnel) = client.connect_udp("192.0.2.1", 53).await else { return };
                    assert!(matches!(tunnel.ended().await, StreamEnd::Violation(_)), "{what}");
                } else {
                    let Ok(mut tunnel) = client.connect_tcp("192.0.2.1:80").await else { return };
                    assert!(matches!(tunnel.ended().await, StreamEnd::Violation(_)), "{what}");
                }
            };
            tokio::join!(serve, ask);
            assert_violation(&client, &connection, code, what).await;
        }
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_head() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        let serve = async {
            let (mut send, recv) = connection.accept_bi().await.unwrap();
            // An informational answer first is passed over.
            send.write_all(&head(&[(":status", "103")])).await.unwrap();
            send.write_all(&head(&[(":status", "502"), ("proxy-status", "r; error=dns_error")])).await.unwrap();
            send.finish().unwrap();
            recv
        };
        let (_recv, error) = tokio::join!(serve, client.connect_tcp("a.test:80"));
        let error = error.unwrap_err();
        let refused = error.refused().unwrap();
        assert_eq!((refused.status, refused.proxy_status.as_deref()), (502, Some("r; error=dns_error")));
        assert_eq!(error.to_string(), "refused: status 502, Proxy-Status r; error=dns_error");
    }

    #[tokio::test]
    async fn how_a_stream_ends_is_told_apart() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        let accept = async || {
            let (mut send, recv) = connection.accept_bi().await.unwrap();
            send.write_all(&head(&[(":status", "200")])).await.unwrap();
            (send, recv)
        };

        let (tunnel, (mut send, mut recv)) = tokio::join!(client.connect_tcp("a.test:80"), accept());
        let mut tunnel = tunnel.unwrap();
        send.write_all(&[0x0, 2, b'h', b'i']).await.unwrap();
        assert_eq!(tunnel.recv().await.unwrap().unwrap(), "hi");
        recv.stop(0x10f_u32.into()).unwrap();
        assert_eq!(tunnel.send.stopped().await, StreamEnd::Stopped(0x10f));
        send.reset(0x10f_u32.into()).unwrap();
        assert_eq!((tunnel.ended().await, tunnel.ended().await), (StreamEnd::Reset(0x10f), StreamEnd::Reset(0x10f)));

        // Finished and dropped: FIN arrives, no reset.
        let (tunnel, (send, mut recv)) = tokio::join!(client.connect_tcp("a.test:80"), accept());
        let mut tunnel = tunnel.unwrap();
        tunnel.send(Bytes::from_static(b"bye")).await.unwrap();
        tunnel.finish().unwrap();
        drop(tunnel);
        let all = recv.read_to_end(1000).await.unwrap();
        assert!(all.ends_with(&[0, 0, 3, b'b', b'y', b'e']) || all.ends_with(b"\x03bye"), "{all:?}");
        let stopped = send.stopped().await.unwrap();
        assert_eq!(stopped.map(quinn::VarInt::into_inner), Some(h3::REQUEST_CANCELLED));

        // Dropped unfinished: reset.
        let (tunnel, (_send, mut recv)) = tokio::join!(client.connect_tcp("a.test:80"), accept());
        drop(tunnel.unwrap());
        let reset = loop {
            if let Err(error) = recv.read_chunk(1000, true).await {
                break error;
            }
        };
        assert_eq!(reset, quinn::ReadError::Reset((h3::REQUEST_CANCELLED as u32).into()));

        let (tunnel, _streams) = tokio::join!(client.connect_tcp("a.test:80"), accept());
        connection.close(0x102_u32.into(), b"broken");
        let closed = Closed { by_peer: true, layer: Layer::Application, code: 0x102, reason: "broken".into() };
        assert_eq!(tunnel.unwrap().ended().await, StreamEnd::Lost(closed.clone()));
        assert_eq!(client.closed().await.unwrap(), closed);
    }

    #[tokio::test]
    async fn payloads_come_by_either_means_and_strays_are_kept() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        let accept = async {
            let (mut send, recv) = connection.accept_bi().await.unwrap();
            send.write_all(&head(&[(":status", "200")])).await.unwrap();
            (send, recv)
        };
        let (tunnel, (mut send, _recv)) = tokio::join!(client.connect_udp("192.0.2.1", 53), accept);
        let mut tunnel = tunnel.unwrap();
        assert!(tunnel.carries_datagrams());

        // For another stream, of another context, then one for us.
        for datagram in [&[9, 0, 1][..], &[0, 2, 1], &[0, 0, b'd']] {
            connection.send_datagram(Bytes::copy_from_slice(datagram)).unwrap();
        }
        let packet = tunnel.recv().await.unwrap();
        assert_eq!((&packet.payload[..], packet.means), (&b"d"[..], Means::Datagram));
        assert_eq!((client.stray_datagrams(), client.stray_datagram_count()), (vec![(9, Bytes::from_static(&[0, 1]))], 1));

        // An unknown capsule, then a DATAGRAM capsule over two DATA frames.
        send.write_all(&[0x0, 4, 0x17, 1, 7, 0x0, 0x0, 3, 2, 0, b'c']).await.unwrap();
        let packet = tunnel.recv().await.unwrap();
        assert_eq!((&packet.payload[..], packet.means), (&b"c"[..], Means::Capsule));

        tunnel.send(b"out").unwrap();
        assert_eq!(connection.read_datagram().await.unwrap(), &[0, 0, b'o', b'u', b't'][..]);
        let most = connection.max_datagram_size().unwrap();
        assert!(matches!(tunnel.send(&vec![0; most + 200]), Err(ProbeError::TooLarge { .. })));

        drop(tunnel);
        connection.send_datagram(Bytes::from_static(&[0, 0, 1])).unwrap();
        while client.stray_datagram_count() < 2 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_unread_tunnel_loses_its_own_datagrams_only() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        let unread = client.exchange().await.unwrap();
        let mut sent = 0;
        while client.overflown_datagrams() == 0 {
            connection.send_datagram_wait(Bytes::from_static(&[0, 0, 1])).await.unwrap();
            sent += 1;
            assert!(sent < 100_000, "the queue has no bound");
        }
        assert_eq!((unread.quarter_id(), client.violation()), (0, None));
    }

    #[tokio::test]
    async fn no_wait_is_for_ever() {
        let fake = Fake::start(false);
        let mut options = fake.options();
        // A busy machine makes the first handshake within it.
        options.timeout = Duration::from_millis(400);
        options.patience = Some(Duration::from_millis(50));
        let (client, connection) = fake.pair(options.clone()).await;
        assert!(matches!(client.settings().await, Err(ProbeError::TimedOut { .. })));
        assert!(matches!(client.goaway(1).await, Err(ProbeError::TimedOut { .. })));
        assert!(matches!(client.closed().await, Err(ProbeError::TimedOut { .. })));
        let mut exchange = client.request(&client.options().tcp_head("a.test:80")).await.unwrap();
        assert!(matches!(exchange.answer().await, Err(ProbeError::TimedOut { .. })));
        assert_eq!(exchange.recv.recv().await, Err(StreamEnd::TimedOut));
        drop(connection);

        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        options.addresses = vec![nobody.local_addr().unwrap()];
        assert!(matches!(Client::open(options).await, Err(ProbeError::TimedOut { what: "the handshake", .. })));
    }

    #[tokio::test]
    async fn extended_connect_waits_for_leave() {
        let fake = Fake::start(false);
        let (client, connection) = fake.pair(fake.options()).await;
        let _control = uni(&connection, &control(&frame::encode(frame::SETTINGS, &[]))).await;
        let error = client.connect_udp("192.0.2.1", 53).await.unwrap_err();
        assert!(matches!(error, ProbeError::Unsupported("SETTINGS_ENABLE_CONNECT_PROTOCOL")), "{error}");
    }

    #[tokio::test]
    async fn a_ticket_resumes_and_0rtt_goes_out_only_where_allowed() {
        for allowed in [true, false] {
            let fake = Fake::start(allowed);
            let (client, connection) = fake.pair(fake.options()).await;
            let tickets = client.options().tickets.clone();
            assert_eq!(tickets.early_data(1).await, if allowed { u32::MAX } else { 0 });
            let mut options = client.again();
            options.early_data = true;
            drop((client, connection));

            let (client, _connection) = fake.pair(options).await;
            assert_eq!((client.early_data(), tickets.taken()), (allowed, 1));
        }
    }

    #[tokio::test]
    async fn a_client_keeps_its_connection_over_a_change_of_address() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        let before = client.local_addr().unwrap();
        client.rebind().unwrap();
        assert_ne!(client.local_addr().unwrap(), before);
        client.send_settings(&Settings(vec![(H3_DATAGRAM, 1)])).await.unwrap();
        let mut control = connection.accept_uni().await.unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < 9 {
            bytes.extend_from_slice(&control.read_chunk(100, true).await.unwrap().unwrap().bytes);
        }
        assert_eq!(bytes, [0, 4, 2, 0x33, 1, 4, 2, 0x33, 1]);
        assert_eq!(connection.remote_address().port(), client.local_addr().unwrap().port());
    }

    #[tokio::test]
    async fn dropping_a_client_says_h3_no_error() {
        let fake = Fake::start(false);
        let (client, connection, _control) = fake.good_pair(fake.options()).await;
        let tunnel = client.exchange().await.unwrap();
        drop(client);
        let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("no close") };
        assert_eq!(close.error_code.into_inner(), h3::NO_ERROR);
        drop(tunnel);
    }
}
