//! Lines of real logs that people published, and lines that nobody should write.

use proptest::{prop_assert, proptest};

use super::*;

fn told(message: &str) -> (String, Option<Event>) {
    let (head, event) = read(message);
    (head.map(|head| head.cid.to_owned()).unwrap_or_default(), event)
}

fn close(by: By, layer: Layer, code: u64, reason: &str) -> Event {
    Event::Closed(Close { by, layer: Some(layer), code: Some(code), reason: reason.into() })
}

fn flow(name: &str, at_ms: f64, error: Option<&str>) -> Event {
    Event::Flow { name: name.into(), at_ms: Some(at_ms), error: error.map(str::to_owned) }
}

#[test]
fn real_lines_are_understood() {
    for (message, cid, event) in [
        (
            "quic_crypto_tls_ready_inner [C1.1.2.1:2] [-010f00aa] QUIC connection established in 121.693 ms, RTT 98.812 ms",
            "C1.1.2.1",
            Some(Event::Established { ms: 121.693, rtt_ms: Some(98.812) }),
        ),
        (
            "quic_conn_keepalive_handler [C69.1.1.1:2] [-0178f846] keep-alive timer fired, exceeding 2 outstanding keep-alives",
            "C69.1.1.1",
            Some(Event::KeepAliveLost),
        ),
        (
            "quic_frame_write_CONNECTION_CLOSE [C10.1.1.1:2] [-ebe5177080beb266] sending APPLICATION_CLOSE, code 0x100, reason <null>",
            "C10.1.1.1",
            Some(close(By::Client, Layer::Application, 0x100, "")),
        ),
        (
            "quic_stream_send_reset_stream [C3.1.1.1:2] [-e0b003ee82b31aa4] [S300] sending RESET_STREAM",
            "C3.1.1.1",
            Some(Event::Stream { sent: true, frame: "RESET_STREAM".into() }),
        ),
        (
            r#"nw_read_request_report [C69] Receive failed with error "Operation timed out""#,
            "C69",
            Some(Event::ReceiveFailed("Operation timed out".into())),
        ),
        ("nw_socket_handle_socket_event [C32.1.1:1] Socket SO_ERROR [61: Connection refused]", "C32.1.1", Some(Event::SocketError(61))),
        (
            "boringssl_context_certificate_verify_callback(2000) [C2:1][0x1] Certificate verification result: OK",
            "C2",
            Some(Event::Certificate("OK".into())),
        ),
        (
            "nw_protocol_boringssl_signal_connected(755) [C2:1][0x1] TLS connected [version(0x0304) ciphersuite(TLS_AES_128_GCM_SHA256) group(0x001d) \
             alpn(h3) resumed(0) connect_time(119ms) flight_time(100ms) rtt(100ms)]",
            "C2",
            Some(Event::TlsConnected { alpn: Some("h3".into()), ms: Some(119.0), rtt_ms: Some(100.0) }),
        ),
        (
            "boringssl_context_handle_fatal_alert(2313) [C1.1.1.1:2][0x1] read alert, level: fatal, description: internal error",
            "C1.1.1.1",
            Some(Event::Alert { read: true, words: "internal error".into() }),
        ),
        ("Connection 1: failed to connect 3:-9838, reason -1", "C1", Some(Event::ConnectFailed(-9838))),
    ] {
        // The number of `Connection 1` is that of C1.
        let (got, told) = told(message);
        assert_eq!((got.trim_start_matches('C'), told), (cid.trim_start_matches('C'), event), "{message}");
    }
}

const PATH: &str = "(satisfied (Path is satisfied), viable, interface: en0[802.11], ipv4, ipv6, dns, uses wifi)";

#[test]
fn the_lines_of_a_flow_are_understood() {
    let on = |text: &str| format!("[C1.1.1 192.168.4.197:4433 in_progress socket-flow {PATH}] {text}");
    for (message, event) in [
        (
            format!("nw_flow_connected {}", on("Transport protocol connected (quic)")),
            Some(Event::Connected("Transport".into(), "quic".into())),
        ),
        (format!("nw_flow_connected {}", on("Joined protocol connected (http3)")), Some(Event::Connected("Joined".into(), "http3".into()))),
        (on("event: flow:finish_transport @0.131s"), Some(flow("flow:finish_transport", 131.0, None))),
        (
            on("event: flow:failed_connect @0.141s, error Software caused connection abort"),
            Some(flow("flow:failed_connect", 141.0, Some("Software caused connection abort"))),
        ),
        (on("Output protocol disconnected"), Some(Event::Disconnected)),
        (
            on("Privacy proxy failed with error 53 ([C1.1.1] masque Proxy: http://192.168.4.197:4433)"),
            Some(Event::ProxyFailed { errno: 53, relay: Some("http://192.168.4.197:4433".into()) }),
        ),
        (on("cancel"), Some(Event::Cancel)),
        (on("something new"), None),
    ] {
        let (head, told) = read(&message);
        let head = head.expect("a head");
        assert_eq!(told, event, "{message}");
        assert_eq!(
            (head.cid, head.endpoint, head.state, head.mode, head.number()),
            ("C1.1.1", Some("192.168.4.197:4433"), Some("in_progress"), Some("socket-flow"), Some(1))
        );
    }
}

#[test]
fn a_summary_is_read_by_its_keys() {
    let Some(Event::Summary(times)) = read("Duration: 0.121s, QUIC @0.000s took 0.000s, TLS 1.3 took 0.111s").1 else {
        panic!("no summary")
    };
    assert_eq!((times.duration_ms, times.transport.as_deref(), times.tls_ms), (Some(121.0), Some("quic"), Some(111.0)));
    // In another order, with keys that nobody knows yet.
    let Some(Event::Summary(counts)) =
        read("\trtt: 0.074s, colour: blue, packets in/out: 4/8, retransmitted bytes: 0, bytes in/out: 2880/4322").1
    else {
        panic!("no summary")
    };
    assert_eq!(
        (counts.rtt_ms, counts.packets, counts.retransmitted, counts.bytes),
        (Some(74.0), Some((4, 8)), Some(0), Some((2880, 4322)))
    );
    assert_eq!(read("colour: blue, size: 3"), (None, None));
    let ends = "[C2 FCB1CFD1-4BF9-4E37-810E-81265D141087 192.168.4.139:53898<->192.168.4.197:4433]";
    assert_eq!(told(ends), ("C2".into(), Some(Event::Ends { local: "192.168.4.139:53898".into(), remote: "192.168.4.197:4433".into() })));
}

#[test]
fn a_host_may_be_redacted_wherever_it_stands() {
    for token in [
        "<private>:443",
        "<mask.hash: 'a b=='>:443",
        "<private>",
        "Hostname#1a2b3c4d:443",
        "IPv4#124bdc4d:80",
        "2001:db8::1.443",
        "[2001:db8::1]:443",
    ] {
        let uuid = "E47A3A0C-7275-4F6B-AEDF-59077ABAE34B ";
        for (id, function) in [("", ""), (uuid, ""), ("", "nw_x "), (uuid, "nw_x ")] {
            let message = format!("{function}[C3.1 {id}{token} in_progress proxy (satisfied)] cancelled");
            let (head, event) = read(&message);
            let head = head.unwrap_or_else(|| panic!("no head: {message}"));
            assert_eq!(
                (head.cid, head.endpoint, head.state, head.mode),
                ("C3.1", Some(token), Some("in_progress"), Some("proxy")),
                "{message}"
            );
            assert_eq!(event, Some(Event::Cancelled));
        }
        let both = format!("[C3 {token}<->{token}]");
        assert_eq!(told(&both).1, Some(Event::Ends { local: token.into(), remote: token.into() }), "{both}");
    }
}

#[test]
fn what_is_nobodys_is_nobodys() {
    for message in
        ["", "[", "[C", "[C] x", "[Cx 1] y", "some words [C1] x", "[C1", "]", "Connection x: failed", "Connection : failed", "(2) [D1] x"]
    {
        assert_eq!(read(message), (None, None), "{message}");
    }
    for message in [
        "[C1] sending",
        "[C1] failed to connect",
        "[C1] ] x",
        "[C1]]",
        "[C1] Privacy proxy failed with error ",
        "[C1] read alert, level: warning, description: x",
    ] {
        assert_eq!(told(message), ("C1".into(), None), "{message}");
    }
}

proptest! {
    #[test]
    fn no_message_is_too_strange(message in "([a-z_]{0,8}(\\([0-9]{0,3}\\))? ?)?\\[C[0-9.:]{0,4} ?[^\\x00]{0,20}\\]? ?(event: |sending |failed to connect |TLS connected \\[|SO_ERROR \\[)?.{0,30}") {
        if let (Some(head), _) = read(&message) {
            prop_assert!(message.contains(head.cid));
        }
    }
}
