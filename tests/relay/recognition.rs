//! Section B: what a request must look like.

use masque_relay::{config::Privacy, probe::Http, proto::template::Template};

use crate::support::{
    Relay, descriptors,
    h2::{Verdict, code},
    on_versions,
    request::{
        self, ANSWERED, Fields, RESET, answer_to, ask, assert_accepted, assert_malformed, assert_refused, path, refusal, set, success, tcp,
        udp,
    },
    tcp::TcpEcho,
    udp::UdpTarget,
};

on_versions!(c11_every_pseudo_header_is_needed_and_not_empty: h2 h3);

async fn c11_every_pseudo_header_is_needed_and_not_empty(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let target = UdpTarget::silent().await;
    let answered = Some(Verdict::Status(400));
    for (name, dropped, empty) in [
        // The h2 crate takes an empty method for one that it could not decode, and that costs the connection.
        (":method", RESET, Some(Verdict::Closed(code::PROTOCOL_ERROR))),
        // What is left is a classic CONNECT with a path.
        (":protocol", RESET, answered),
        (":scheme", RESET, answered),
        (":authority", answered, RESET),
        (":path", RESET, RESET),
    ] {
        let fields = udp(&client, &path("127.0.0.1", &target.address().port().to_string()));
        let without = fields.iter().filter(|field| field.0 != name).cloned().collect();
        assert_malformed(&relay, &client, without, dropped, &format!("no {name}")).await;
        assert_malformed(&relay, &client, set(fields, name, ""), empty, &format!("empty {name}")).await;
        assert_eq!(descriptors::towards(target.address()), [], "a socket was opened");
    }
    relay.finish().await;
}

on_versions!(c12_classic_connect_has_no_scheme_and_no_path: h2 h3);

async fn c12_classic_connect_has_no_scheme_and_no_path(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    for (name, value) in [(":scheme", "https"), (":path", "/")] {
        let mut fields = tcp(&client, &echo.address().to_string());
        fields.insert(1, (name.into(), value.into()));
        assert_malformed(&relay, &client, fields, RESET, name).await;
    }
    assert_eq!(echo.accepted(), 0);
    relay.finish().await;
}

on_versions!(c13_authority_and_host_agree: h1 h2 h3);

async fn c13_authority_and_host_agree(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    let authority = echo.address().to_string();
    for hosts in [vec!["other.test:80"], vec![&authority, &authority]] {
        let mut fields = tcp(&client, &authority);
        fields.extend(hosts.iter().map(|host| ("host".into(), host.to_string())));
        assert_refused(&client, fields, 400, "http_request_error", &format!("{hosts:?}")).await;
    }
    assert_eq!(echo.accepted(), 0);
    let mut fields = tcp(&client, &authority);
    fields.push(("host".into(), authority));
    assert_accepted(&client, fields, "the same twice").await;

    let good = udp(&client, &path("127.0.0.1", "9"));
    let good_status = success(&client, &good);
    // HTTP/1.1 has no other authority than `Host` when a path is asked for.
    let other_status = if http == Http::H1 { good_status } else { 400 };
    for (hosts, status) in [(vec!["relay.test"], good_status), (vec!["other.test"], other_status), (vec!["relay.test", "relay.test"], 400)]
    {
        let mut fields = good.clone();
        fields.extend(hosts.iter().map(|host| ("host".into(), host.to_string())));
        assert_eq!(answer_to(&client, fields, "connect-udp").await.status, status, "{hosts:?}");
    }
    relay.finish().await;
}

on_versions!(c14_an_unknown_protocol_is_not_implemented_and_logged_under_its_name: h1 h2 h3);

async fn c14_an_unknown_protocol_is_not_implemented_and_logged_under_its_name(http: Http) {
    let relay = Relay::spawn(|config| config.log.privacy = Privacy::None).await;
    let client = relay.client_over(http).await;
    for protocol in ["websocket", "webtransport", "connect-ip", "connect-udp-bind", "connect-tcp", "x-none", "never-heard-of-this"] {
        let fields = set(udp(&client, &path("secret.test", "9")), ":protocol", protocol);
        let (status, proxy_status) = refusal(&client, fields, protocol).await;
        assert_eq!(status, 501, "{protocol}");
        assert_eq!(proxy_status, format!("masque-relay;error=http_request_error;details=\"protocol not served: {protocol}\""));
        // A protocol is not a target: its name is written whatever `privacy` says of targets.
        let line = relay.logged(&format!("protocol not served: {protocol}\"")).await;
        assert!(line.contains("request refused") && line.contains("status=501") && !line.contains("secret"), "{line}");
    }
    relay.finish().await;
}

on_versions!(c15_other_methods_are_refused: h1 h2 h3);

async fn c15_other_methods_are_refused(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS"] {
        let status = refusal(&client, request::method(&client, method), method).await.0;
        assert!([405, 501].contains(&status), "{method}: {status}");
    }
    relay.finish().await;
}

on_versions!(c18_the_default_template_is_served_beside_others: h1 h2 h3);

async fn c18_the_default_template_is_served_beside_others(http: Http) {
    let other = Template::parse("/masque?h={target_host}&p={target_port}").unwrap();
    for templates in [vec![], vec![other]] {
        let served = templates.len();
        let relay = Relay::spawn(|config| config.templates = templates).await;
        let client = relay.client_over(http).await;
        assert_accepted(&client, udp(&client, &path("127.0.0.1", "9")), "the default template").await;
        let fields = udp(&client, "/masque?h=127.0.0.1&p=9");
        let expected = [404, success(&client, &fields)][served];
        assert_eq!(answer_to(&client, fields, "the other").await.status, expected);
        relay.finish().await;
    }
}

on_versions!(c19_only_the_trailing_slash_may_be_missing: h1 h2 h3);

async fn c19_only_the_trailing_slash_may_be_missing(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    assert_accepted(&client, udp(&client, "/.well-known/masque/udp/127.0.0.1/9"), "no trailing slash").await;
    for (path, status) in [
        ("/.well-known/masque/udp/127.0.0.1/9/more/", 400),
        ("/.well-known/masque/udp/127.0.0.1/9/?a=b", 400),
        ("/elsewhere/127.0.0.1/9/", 404),
    ] {
        assert_eq!(refusal(&client, udp(&client, path), path).await.0, status, "{path}");
    }
    relay.finish().await;
}

on_versions!(c20_host_and_port_are_not_empty: h1 h2 h3);

async fn c20_host_and_port_are_not_empty(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for (host, port) in [("", "9"), ("127.0.0.1", ""), ("", "")] {
        assert_refused(&client, udp(&client, &path(host, port)), 400, "http_request_error", &format!("{host:?} {port:?}")).await;
    }
    relay.finish().await;
}

on_versions!(c21_the_port_is_decimal_from_1_to_65535: h1 h2 h3);

async fn c21_the_port_is_decimal_from_1_to_65535(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for port in ["0", "65536", "-1", "+53", "0x35", "53%20", "http", "99999999999999999999"] {
        assert_refused(&client, udp(&client, &path("127.0.0.1", port)), 400, "http_request_error", port).await;
    }
    for port in ["1", "65535"] {
        assert_accepted(&client, udp(&client, &path("127.0.0.1", port)), port).await;
    }
    relay.finish().await;
}

on_versions!(c22_an_ipv6_literal_is_decoded_once: h1 h2 h3);

async fn c22_an_ipv6_literal_is_decoded_once(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for host in ["%3A%3A1", "%3a%3a1", "0%3A0%3a0%3A0%3A0%3A0%3A0%3A1"] {
        let status = assert_accepted(&client, udp(&client, &path(host, "9")), host).await;
        assert!(status.contains("[::1]"), "{host}: {status}");
    }
    relay.finish().await;
}

on_versions!(c23_zone_identifiers_are_refused: h1 h2 h3);

async fn c23_zone_identifiers_are_refused(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for host in ["fe80%3A%3A1%25eth0", "fe80%3A%3A1%25lo", "%3A%3A1%251"] {
        assert_refused(&client, udp(&client, &path(host, "9")), 400, "http_request_error", host).await;
    }
    relay.finish().await;
}

on_versions!(c24_encoded_trickery_names_no_host: h1 h2 h3);

async fn c24_encoded_trickery_names_no_host(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for host in [
        "a%2Fb.test",
        "a.test%2F",
        "..%2Fb.test",
        "127.0.0.1%00",
        "a.test%00",
        "%00",
        "%0d%0a",
        "a.test%0a",
        "%2531",
        "127.0.0.%2531",
        "%25%33%31",
        "%252F",
        "a.test%253A80",
        "a%7f.test",
        "a%20b.test",
        "a.test%3F",
        "a.test%23",
        "a%40b.test",
        "a.test%5C",
        "%",
        "%4",
        "%zz",
    ] {
        assert_refused(&client, udp(&client, &path(host, "9")), 400, "http_request_error", host).await;
        // To the h2 crate `%` is nothing that an authority may have.
        assert_malformed(&relay, &client, tcp(&client, &format!("{host}:9")), RESET, host).await;
    }
    assert_eq!(relay.dns.count_all(), 0, "a name was looked up");
    // What is encoded once, and no trickery, is what it says.
    for host in ["127.0.0.%31", "%31%32%37.0.0.1", "a%2Etest"] {
        relay.dns.addresses("a.test", &["127.0.0.1".parse().unwrap()]);
        assert_accepted(&client, udp(&client, &path(host, "9")), host).await;
    }
    relay.finish().await;
}

on_versions!(c25_a_classic_authority_is_host_and_port: h1 h2 h3);

async fn c25_a_classic_authority_is_host_and_port(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for authority in ["127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "user@127.0.0.1:80", ":80", "127.0.0.1:+80"] {
        assert_malformed(&relay, &client, tcp(&client, authority), ANSWERED, authority).await;
    }
    assert_malformed(&relay, &client, tcp(&client, ""), RESET, "an empty one").await;
    relay.finish().await;
}

on_versions!(c26_content_and_connection_fields_are_malformed: h1 h2 h3);

async fn c26_content_and_connection_fields_are_malformed(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let with = |name: &str, value: &str| [udp(&client, &path("127.0.0.1", "9")), vec![(name.into(), value.into())]].concat();
    for (name, value, on_h2) in
        [("content-length", "0", ANSWERED), ("content-type", "text/plain", ANSWERED), ("transfer-encoding", "chunked", RESET)]
    {
        assert_malformed(&relay, &client, with(name, value), on_h2, name).await;
    }
    for (name, value) in [("keep-alive", "1"), ("proxy-connection", "close"), ("connection", "close"), ("upgrade", "connect-udp")] {
        if http != Http::H1 {
            assert_malformed(&relay, &client, with(name, value), RESET, name).await;
        } else if name != "upgrade" {
            // They are HTTP/1.1's own, and of the connection that becomes the tunnel.
            assert_accepted(&client, with(name, value), name).await;
        }
    }
    relay.finish().await;
}

on_versions!(c27_capsule_protocol_is_no_reason_to_refuse: h1 h2 h3);

async fn c27_capsule_protocol_is_no_reason_to_refuse(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let without: Fields = udp(&client, &path("127.0.0.1", "9")).into_iter().filter(|field| field.0 != "capsule-protocol").collect();
    assert_accepted(&client, without.clone(), "absent").await;
    for value in ["?1", "?0", "1", "yes", "\"?1\"", "?1;a=b", ""] {
        let mut fields = without.clone();
        fields.push(("capsule-protocol".into(), value.into()));
        assert_accepted(&client, fields, value).await;
    }
    relay.finish().await;
}

on_versions!(c28_a_request_that_ends_at_once_gets_an_answer: h1 h2 h3);

async fn c28_a_request_that_ends_at_once_gets_an_answer(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let fields = udp(&client, &path("127.0.0.1", "9"));
    let mut exchange = ask(&client, &fields).await;
    exchange.send.finish().expect("a FIN");
    let status = exchange.answer().await.unwrap().status;
    assert!([success(&client, &fields), 400].contains(&status), "{status}");
    while exchange.recv.recv().await.expect("no reset").is_some() {}
    relay.finish().await;
}
