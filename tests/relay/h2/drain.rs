//! A drain as HTTP/2 says it, frame by frame (C-79).

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::support::{
    PATIENCE, Relay,
    h2::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, connect_fields, frame},
    tcp::{TcpEcho, TcpTarget},
    until,
};

#[tokio::test]
async fn c79_a_drain_waits_for_a_client_that_reads_slowly() {
    const DOWNLOAD: usize = 16 << 20;
    let mut relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let mut raw = Raw::open(&relay).await;
    // Credit for all of it: nothing but TCP holds it up.
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0])).await;
    raw.request(1, 0, &connect_fields(&target.address().to_string())).await;
    raw.answer(1).await;
    let mut stream = target.accept().await;
    let server = relay.take_server();
    let work = async {
        raw.find("GOAWAY", |frame| frame.kind == GOAWAY).await;
        raw.send(&frame(DATA, END_STREAM, 1, &[])).await;
        let upload = async {
            stream.write_all(&vec![7; DOWNLOAD]).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        // It reads until the tunnel is over for the relay, and stops for longer than an idle connection is kept.
        let download = async {
            let mut got = 0;
            while relay.metrics().tunnels_open > 0 {
                let frame = raw.find("DATA", |frame| frame.kind == DATA).await;
                got += frame.payload.len();
                if frame.flags & END_STREAM != 0 {
                    // All of it was there before the relay had counted the tunnel's end.
                    return got;
                }
            }
            let closed = until("the connection to be closed", || relay.metrics().connections_open, |open| *open == 0);
            // It may be, once the kernel has all of it.
            timeout(Duration::from_millis(1300), closed).await.unwrap_or_default();
            loop {
                let frame = raw.find("DATA", |frame| frame.kind == DATA).await;
                got += frame.payload.len();
                if frame.flags & END_STREAM != 0 {
                    return got;
                }
            }
        };
        let ((), got) = tokio::join!(upload, download);
        assert_eq!(got, DOWNLOAD);
        drop(raw);
    };
    let (cut, ()) = tokio::join!(server.drain(PATIENCE), work);
    assert_eq!(cut, 0);
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn c79_a_draining_relay_takes_no_later_stream() {
    let mut relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let mut raw = Raw::open(&relay).await;
    raw.request(1, 0, &connect_fields(&echo.address().to_string())).await;
    raw.answer(1).await;
    let server = relay.take_server();
    let work = async {
        for last in [(1_u32 << 31) - 1, 1] {
            let goaway = raw.find("GOAWAY", |frame| frame.kind == GOAWAY).await;
            assert_eq!((&goaway.payload[..4], goaway.code()), (&last.to_be_bytes()[..], 0));
            // The last that counts is said when the client is known to have seen the first.
            if last > 1 {
                let ping = raw.find("PING", |frame| frame.kind == PING).await;
                raw.send(&frame(PING, ACK, 0, &ping.payload)).await;
            }
        }
        raw.request(3, 0, &connect_fields(&echo.address().to_string())).await;
        raw.send(&frame(DATA, END_STREAM, 1, b"still here")).await;
        let mut back = Vec::new();
        // All that is left to come is the tunnel's, and then the end of the connection.
        while let Some(frame) = raw.next_of(&[DATA, HEADERS, RST_STREAM]).await {
            assert_eq!((frame.kind, frame.stream), (DATA, 1));
            back.extend(frame.payload);
        }
        assert_eq!(back, b"still here");
        assert_eq!(echo.accepted(), 1);
    };
    let (cut, ()) = tokio::join!(server.drain(PATIENCE), work);
    assert_eq!(cut, 0);
    drop(raw);
    relay.finish().await;
}
