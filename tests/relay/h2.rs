//! What is HTTP/2's own: the block "H2 specifics" of the statements (`h2_N_…`), floods, misuse, and the drain.

mod drain;
mod floods;
mod misuse;

use bytes::Bytes;
use masque_relay::{probe::Http, proto::capsule::write_udp_header};

use crate::support::{
    Relay, descriptors,
    h2::{DATA, END_STREAM, RST_STREAM, Raw, code, connect_fields, frame, status, udp_fields},
    tcp::{self, TcpEcho, TcpTarget},
    udp::UdpTarget,
};

fn capsule(payload: &[u8]) -> Vec<u8> {
    let mut capsule = Vec::new();
    write_udp_header(payload.len(), &mut capsule);
    capsule.extend_from_slice(payload);
    capsule
}

#[tokio::test]
async fn h2_1_data_frames_are_capsules() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let mut raw = Raw::open(&relay).await;
    raw.request(1, 0, &udp_fields("127.0.0.1", echo.address().port())).await;
    assert_eq!(status(&raw.answer(1).await), 200);

    let whole = [capsule(b"one"), capsule(b"two")].concat();
    // Cut anywhere, with an empty frame between.
    for part in [&whole[..2], &[], &whole[2..5], &whole[5..]] {
        raw.send(&frame(DATA, 0, 1, part)).await;
    }
    let mut back = Vec::new();
    while back.len() < whole.len() {
        back.extend(raw.find("DATA", |frame| frame.kind == DATA).await.payload);
    }
    assert_eq!(back, whole);
    raw.send(&frame(DATA, END_STREAM, 1, &[])).await;
    let end = raw.find("the end", |frame| frame.kind == DATA && frame.flags & END_STREAM != 0).await;
    assert!(end.payload.is_empty());
    descriptors::none_towards(echo.address()).await;
    drop(raw);
    relay.finish().await;
}

#[tokio::test]
async fn h2_1_an_end_inside_a_capsule_is_malformed() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let mut raw = Raw::open(&relay).await;
    for (stream, cut) in [(1, &[0_u8][..]), (3, &[0, 9]), (5, &[0, 9, 0, 1])] {
        raw.request(stream, 0, &udp_fields("127.0.0.1", echo.address().port())).await;
        raw.answer(stream).await;
        raw.send(&frame(DATA, END_STREAM, stream, cut)).await;
        assert_eq!(raw.reset(stream).await, code::PROTOCOL_ERROR, "{cut:?}");
    }
    drop(raw);
    relay.finish().await;
}

#[tokio::test]
async fn h2_2_credit_comes_back_only_as_the_target_takes_bytes() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(Http::H2).await;
    let mut tunnel = client.connect_tcp(&target.address().to_string()).await.unwrap();
    let mut stream = target.accept().await;
    // More than the stream's window of 8 MiB and all that sockets hold: it cannot be sent while nobody reads.
    let sent = vec![7; 32 << 20];
    let mut senders = tokio::task::JoinSet::new();
    senders.spawn({
        let sent = Bytes::from(sent.clone());
        async move {
            for chunk in sent.chunks(64 << 10) {
                tunnel.send(Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            tunnel.finish().unwrap();
            tunnel
        }
    });
    let early = tokio::time::timeout(std::time::Duration::from_millis(500), senders.join_next()).await;
    assert!(early.is_err(), "32 MiB were taken from the client with nobody to take them");
    let got = tcp::read_to_end(&mut stream).await.unwrap();
    assert!(got == sent, "all bytes in order");
    drop(senders.join_next().await.unwrap().unwrap());
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn h2_3_stalled_tunnels_leave_the_connection_to_the_others() {
    let relay = Relay::spawn(|_| {}).await;
    let (stuck, echo) = (TcpTarget::start().await, TcpEcho::start().await);
    let client = relay.client_over(Http::H2).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let tunnel = client.connect_tcp(&stuck.address().to_string()).await.unwrap();
        held.push((stuck.accept().await, tunnel.split()));
    }
    // Each sends until its stream's window is used up: together 32 MiB, twice the connection's.
    let mut fillers = tokio::task::JoinSet::new();
    let mut keep = Vec::new();
    for (stream, (mut send, recv)) in held {
        keep.push((stream, recv));
        fillers.spawn(async move { while send.send(Bytes::from(vec![1; 64 << 10])).await.is_ok() {} });
    }
    let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
    let mut back = 0;
    for _ in 0..64 {
        tunnel.send(Bytes::from(vec![2; 64 << 10])).await.unwrap();
        while back < 64 << 10 {
            back += tunnel.recv().await.unwrap().expect("the echo goes on").len();
        }
        back -= 64 << 10;
    }
    drop((tunnel, keep));
    fillers.shutdown().await;
    relay.finish().await;
}

#[tokio::test]
async fn h2_4_a_cancelled_stream_closes_its_socket() {
    let relay = Relay::spawn(|_| {}).await;
    let (udp, tcp) = (UdpTarget::echo().await, TcpTarget::start().await);
    let mut raw = Raw::open(&relay).await;
    raw.request(1, 0, &udp_fields("127.0.0.1", udp.address().port())).await;
    raw.answer(1).await;
    raw.request(3, 0, &connect_fields(&tcp.address().to_string())).await;
    raw.answer(3).await;
    let mut stream = tcp.accept().await;
    for id in [1, 3] {
        raw.send(&frame(RST_STREAM, 0, id, &code::CANCEL.to_be_bytes())).await;
    }
    descriptors::none_towards(udp.address()).await;
    let error = tcp::read_to_end(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "C-77: no orderly end");
    // The connection lives.
    let echo = TcpEcho::start().await;
    raw.request(5, 0, &connect_fields(&echo.address().to_string())).await;
    assert_eq!(status(&raw.answer(5).await), 200);
    drop((raw, stream));
    relay.finish().await;
}

#[tokio::test]
async fn c74_headers_in_a_tunnel_are_an_error_of_the_stream() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let mut raw = Raw::open(&relay).await;
    raw.request(1, 0, &connect_fields(&echo.address().to_string())).await;
    raw.answer(1).await;
    // Trailers.
    raw.request(1, END_STREAM, &[("x", "y".into())]).await;
    assert_eq!(raw.reset(1).await, code::PROTOCOL_ERROR);
    raw.request(3, 0, &connect_fields(&echo.address().to_string())).await;
    assert_eq!(status(&raw.answer(3).await), 200);
    drop(raw);
    relay.finish().await;
}
