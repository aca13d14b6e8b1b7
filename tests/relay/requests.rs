//! Sections B, C and D: what a request must look like, how its target is treated, and what the answer says.

use std::time::Duration;

use masque_relay::{
    probe::{Answer, Client, RawExchange},
    proto::frame,
};
use tokio::{net::UdpSocket, time::timeout};

use crate::support::{Relay, tcp::TcpEcho, udp::UdpTarget, within};

type Fields = Vec<(String, String)>;

#[tokio::test]
async fn c11_every_pseudo_header_is_needed_and_not_empty() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for name in [":method", ":protocol", ":scheme", ":authority", ":path"] {
        let fields = udp(&client, &path("127.0.0.1", "9"));
        let dropped = fields.iter().filter(|field| field.0 != name).cloned().collect();
        assert_refused(&client, dropped, 400, "http_request_error", &format!("no {name}")).await;
        assert_refused(&client, set(fields, name, ""), 400, "http_request_error", &format!("empty {name}")).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c12_classic_connect_has_no_scheme_and_no_path() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    for (name, value) in [(":scheme", "https"), (":path", "/")] {
        let mut fields = tcp(&client, &echo.address().to_string());
        fields.insert(1, (name.into(), value.into()));
        assert_refused(&client, fields, 400, "http_request_error", name).await;
    }
    assert_eq!(echo.accepted(), 0);
    relay.finish().await;
}

#[tokio::test]
async fn c13_authority_and_host_agree() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
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
    relay.finish().await;
}

#[tokio::test]
async fn c14_an_unknown_protocol_is_not_implemented() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for protocol in ["x-none", "never-heard-of-this"] {
        let fields = set(udp(&client, &path("127.0.0.1", "9")), ":protocol", protocol);
        assert_eq!(refusal(&client, fields, protocol).await.0, 501, "{protocol}");
        relay.logged(protocol).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c15_other_methods_are_refused() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS"] {
        let fields = udp(&client, &path("127.0.0.1", "9"));
        let fields = set(fields.into_iter().filter(|field| field.0 != ":protocol").collect(), ":method", method);
        let status = refusal(&client, fields, method).await.0;
        assert!([405, 501].contains(&status), "{method}: {status}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c18_the_default_template_is_served() {
    let relay = Relay::spawn(|_| {}).await;
    let target = UdpTarget::echo().await;
    let client = relay.client().await;
    let port = target.address().port().to_string();
    assert_accepted(&client, udp(&client, &path("127.0.0.1", &port)), "the default template").await;
    relay.finish().await;
}

#[tokio::test]
async fn c19_only_the_trailing_slash_may_be_missing() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
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

#[tokio::test]
async fn c20_host_and_port_are_not_empty() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for (host, port) in [("", "9"), ("127.0.0.1", ""), ("", "")] {
        assert_refused(&client, udp(&client, &path(host, port)), 400, "http_request_error", &format!("{host:?} {port:?}")).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c21_the_port_is_decimal_from_1_to_65535() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for port in ["0", "65536", "-1", "+53", "0x35", "53%20", "http", "99999999999999999999"] {
        assert_refused(&client, udp(&client, &path("127.0.0.1", port)), 400, "http_request_error", port).await;
    }
    for port in ["1", "65535"] {
        assert_accepted(&client, udp(&client, &path("127.0.0.1", port)), port).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c22_an_ipv6_literal_is_decoded_once() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for host in ["%3A%3A1", "%3a%3a1", "0%3A0%3a0%3A0%3A0%3A0%3A0%3A1"] {
        let status = assert_accepted(&client, udp(&client, &path(host, "9")), host).await;
        assert!(status.contains("[::1]"), "{host}: {status}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c23_zone_identifiers_are_refused() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for host in ["fe80%3A%3A1%25eth0", "fe80%3A%3A1%25lo", "%3A%3A1%251"] {
        assert_refused(&client, udp(&client, &path(host, "9")), 400, "http_request_error", host).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c24_encoded_trickery_names_no_host() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for host in ["a%2Fb.test", "127.0.0.1%00", "%0d%0a", "%2531", "127.0.0.%2531", "a%7f.test", "%", "%4", "%zz"] {
        assert_refused(&client, udp(&client, &path(host, "9")), 400, "http_request_error", host).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c25_a_classic_authority_is_host_and_port() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for authority in ["127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "user@127.0.0.1:80", ":80", "127.0.0.1:+80", ""] {
        assert_refused(&client, tcp(&client, authority), 400, "http_request_error", authority).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c26_content_and_connection_fields_are_malformed() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for (name, value) in [
        ("content-length", "0"),
        ("content-type", "text/plain"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("upgrade", "connect-udp"),
        ("proxy-connection", "close"),
    ] {
        let mut fields = udp(&client, &path("127.0.0.1", "9"));
        fields.push((name.into(), value.into()));
        assert_refused(&client, fields, 400, "http_request_error", name).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c27_capsule_protocol_is_no_reason_to_refuse() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let without: Fields = udp(&client, &path("127.0.0.1", "9")).into_iter().filter(|field| field.0 != "capsule-protocol").collect();
    assert_accepted(&client, without.clone(), "absent").await;
    for value in ["?1", "?0", "1", "yes", "\"?1\"", "?1;a=b", ""] {
        let mut fields = without.clone();
        fields.push(("capsule-protocol".into(), value.into()));
        assert_accepted(&client, fields, value).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c28_a_request_that_ends_at_once_gets_an_answer() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let mut exchange = ask(&client, &udp(&client, &path("127.0.0.1", "9"))).await;
    exchange.send.finish().expect("a FIN");
    let status = exchange.answer().await.unwrap().status;
    assert!([200, 400].contains(&status), "{status}");
    while exchange.recv.recv().await.expect("no reset").is_some() {}
    relay.finish().await;
}

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

#[tokio::test]
async fn c37_success_is_200_without_content_fields() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    for fields in [udp(&client, &path("127.0.0.1", "9")), tcp(&client, &echo.address().to_string())] {
        let answer = accepted(&client, fields, "a good request").await;
        for name in ["content-length", "content-type", "transfer-encoding"] {
            assert_eq!(values(&answer, name), [""; 0], "{name}");
        }
    }
    relay.finish().await;
}

#[tokio::test]
async fn c38_capsule_protocol_is_exact_and_only_where_it_belongs() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let capsule_protocol = |answer: &Answer| values(answer, "capsule-protocol");

    let answer = accepted(&client, udp(&client, &path("127.0.0.1", "9")), "connect-udp").await;
    assert_eq!(capsule_protocol(&answer), ["?1"]);
    let answer = accepted(&client, tcp(&client, &echo.address().to_string()), "classic CONNECT").await;
    assert_eq!(capsule_protocol(&answer), [""; 0]);
    for path in [path("127.0.0.1", "0"), path("nowhere.test", "9"), "/elsewhere/".into()] {
        let answer = answer_to(&client, udp(&client, &path), &path).await;
        assert!(answer.status >= 400, "{path}: {}", answer.status);
        assert_eq!(capsule_protocol(&answer), [""; 0], "{path}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c39_every_rejection_has_one_proxy_status_member_with_an_error() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let mut names = Vec::new();
    for fields in [
        udp(&client, &path("127.0.0.1", "0")),
        udp(&client, &path("nowhere.test", "9")),
        udp(&client, "/elsewhere/"),
        tcp(&client, "nowhere.test:80"),
        tcp(&client, "127.0.0.1"),
        set(udp(&client, &path("127.0.0.1", "9")), ":protocol", "x-none"),
    ] {
        let answer = answer_to(&client, fields.clone(), "a bad request").await;
        let members = values(&answer, "proxy-status");
        assert_eq!(members.len(), 1, "{fields:?}: {members:?}");
        let (name, parameters) = members[0].split_once(';').expect("parameters");
        assert!(parameters.starts_with("error=") || parameters.contains(";error="), "{members:?}");
        names.push(name.to_string());
    }
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    relay.finish().await;
}

#[tokio::test]
async fn c40_statuses_follow_the_registry() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = closed.local_addr().unwrap().to_string();
    drop(closed);
    assert_refused(&client, tcp(&client, &refusing), 502, "connection_refused", "nobody listens").await;
    assert_refused(&client, tcp(&client, "nowhere.test:80"), 502, "dns_error", "no such name").await;
    assert_refused(&client, udp(&client, &path("nowhere.test", "9")), 502, "dns_error", "no such name").await;
    assert_refused(&client, tcp(&client, "127.0.0.1"), 400, "http_request_error", "no port").await;
    relay.finish().await;
}

#[tokio::test]
async fn c41_a_dns_error_names_the_rcode() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let (_, proxy_status) = refusal(&client, tcp(&client, "nowhere.test:80"), "no such name").await;
    assert!(proxy_status.split(';').any(|parameter| parameter == "rcode=\"NXDOMAIN\""), "{proxy_status}");
    relay.finish().await;
}

#[tokio::test]
async fn c42_success_names_the_next_hop() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let authority = echo.address().to_string();
    for (fields, hop) in [
        (udp(&client, &path("127.0.0.1", "9")), "127.0.0.1:9"),
        (udp(&client, &path("%3A%3A1", "9")), "[::1]:9"),
        (tcp(&client, &authority), &authority),
    ] {
        let status = assert_accepted(&client, fields, hop).await;
        assert!(status.split(';').any(|parameter| parameter == format!("next-hop=\"{hop}\"")), "{hop}: {status}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c43_proxy_status_holds_no_raw_client_input() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for host in ["a\"b", "a\\b", "a,b=c;d", "%22%3Berror%3Dx", "%c3%a9", "a%0Ab", "\u{e9}"] {
        for fields in [udp(&client, &path(host, "9")), tcp(&client, &format!("{host}:80"))] {
            let (_, proxy_status) = refusal(&client, fields, host).await;
            assert!(proxy_status.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{host}: {proxy_status:?}");
            assert!(proxy_status.matches('"').count().is_multiple_of(2), "{host}: {proxy_status}");
            assert_eq!(proxy_status.matches("error=").count(), 1, "{host}: {proxy_status}");
        }
    }
    relay.finish().await;
}

#[tokio::test]
async fn c44_a_denial_is_5xx_by_default() {
    let relay = Relay::spawn(|config| config.rules.allow_private = false).await;
    let client = relay.client().await;
    for fields in [udp(&client, &path("10.0.0.1", "443")), tcp(&client, "10.0.0.1:443")] {
        let (status, proxy_status) = refusal(&client, fields, "a private address").await;
        assert!((500..600).contains(&status), "{status}: {proxy_status}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c45_without_credentials_all_well_formed_requests_look_alike() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.open(relay.stranger()).await;
    let mut seen = Vec::new();
    for fields in [
        tcp(&client, &echo.address().to_string()),
        tcp(&client, "nowhere.test:80"),
        tcp(&client, "10.0.0.1:80"),
        udp(&client, &path("127.0.0.1", "9")),
        udp(&client, &path("nowhere.test", "9")),
        set(udp(&client, &path("127.0.0.1", "9")), ":protocol", "x-none"),
    ] {
        let answer = answer_to(&client, fields.clone(), "no credentials").await;
        assert_eq!(answer.status, 407, "{fields:?}");
        assert!(!values(&answer, "proxy-authenticate").is_empty(), "{fields:?}");
        seen.push((values(&answer, "proxy-authenticate"), values(&answer, "proxy-status")));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(echo.accepted(), 0);
    assert_refused(&client, udp(&client, &path("127.0.0.1", "0")), 400, "http_request_error", "malformed comes first").await;
    relay.finish().await;
}

#[tokio::test]
async fn c47_a_rejection_is_small_and_finishes_the_stream() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for fields in [tcp(&client, "nowhere.test:80"), udp(&client, &path("127.0.0.1", "0"))] {
        let mut exchange = ask(&client, &fields).await;
        assert!(exchange.answer().await.unwrap().status >= 400);
        let mut length = 0;
        while let Some(bytes) = exchange.recv.recv().await.expect("no reset") {
            length += bytes.len();
        }
        assert!(length < 1024, "{length}");
    }
    relay.finish().await;
}

async fn assert_prohibited(client: &Client, ip: &str) {
    let authority = if ip.contains(':') { format!("[{ip}]:443") } else { format!("{ip}:443") };
    assert_refused(client, tcp(client, &authority), 502, "destination_ip_prohibited", ip).await;
    let host = ip.replace(':', "%3A");
    assert_refused(client, udp(client, &path(&host, "443")), 502, "destination_ip_prohibited", ip).await;
}

/// The relay refuses with this status and Proxy-Status error, and one member.
async fn assert_refused(client: &Client, fields: Fields, status: u16, error: &str, what: &str) {
    let (seen, proxy_status) = refusal(client, fields, what).await;
    assert_eq!(seen, status, "{what}: {proxy_status}");
    let parameters: Vec<&str> = proxy_status.split(';').collect();
    assert!(parameters.contains(&format!("error={error}").as_str()), "{what}: {proxy_status}");
}

/// Status and Proxy-Status of a refusal.
async fn refusal(client: &Client, fields: Fields, what: &str) -> (u16, String) {
    match ask(client, &fields).await.tcp().await {
        Ok(_) => panic!("{what}: accepted"),
        Err(error) => {
            let refused = error.refused().unwrap_or_else(|| panic!("{what}: {error}"));
            (refused.status, refused.proxy_status.clone().unwrap_or_default())
        }
    }
}

/// The relay opens a tunnel. Its Proxy-Status.
async fn assert_accepted(client: &Client, fields: Fields, what: &str) -> String {
    values(&accepted(client, fields, what).await, "proxy-status").join(", ")
}

/// The relay opens a tunnel.
async fn accepted(client: &Client, fields: Fields, what: &str) -> Answer {
    let answer = answer_to(client, fields, what).await;
    assert_eq!(answer.status, 200, "{what}");
    answer
}

async fn answer_to(client: &Client, fields: Fields, what: &str) -> Answer {
    ask(client, &fields).await.answer().await.unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn values(answer: &Answer, name: &str) -> Vec<String> {
    let fields = answer.head.fields.iter().filter(|field| field.0 == name);
    fields.map(|field| String::from_utf8_lossy(&field.1).into_owned()).collect()
}

/// The answer NXDOMAIN to a DNS question.
fn no_such_name(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x83;
    answer
}

/// Sends a head as it is, right or wrong.
async fn ask(client: &Client, fields: &Fields) -> RawExchange {
    // RIC 0, base 0; nothing but literals with literal names (RFC 9204 §4.5.6).
    let mut section = vec![0, 0];
    for (name, value) in fields {
        integer(0x20, 7, name.len(), &mut section);
        section.extend(name.as_bytes());
        integer(0x00, 127, value.len(), &mut section);
        section.extend(value.as_bytes());
    }
    let mut exchange = client.exchange().await.expect("a stream");
    exchange.send.send_raw(frame::encode(frame::HEADERS, &section).into()).await.expect("the head goes out");
    exchange
}

/// A prefixed integer (RFC 9204 §4.1.1) below `most + 128`.
fn integer(flags: u8, most: u8, value: usize, out: &mut Vec<u8>) {
    match value.checked_sub(usize::from(most)) {
        None => out.push(flags | value as u8),
        Some(rest) => {
            assert!(rest < 128, "long strings are not needed here");
            out.extend([flags | most, rest as u8]);
        }
    }
}

fn path(host: &str, port: &str) -> String {
    format!("/.well-known/masque/udp/{host}/{port}/")
}

/// A connect-udp request as it should be, credentials included.
fn udp(client: &Client, path: &str) -> Fields {
    let head = [
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", "relay.test"),
        (":path", path),
        ("capsule-protocol", "?1"),
    ];
    with_credentials(client, &head)
}

/// A classic CONNECT as it should be, credentials included.
fn tcp(client: &Client, authority: &str) -> Fields {
    with_credentials(client, &[(":method", "CONNECT"), (":authority", authority)])
}

fn with_credentials(client: &Client, head: &[(&str, &str)]) -> Fields {
    let mut fields: Fields = head.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    fields.extend(client.options().fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    fields
}

fn set(mut fields: Fields, name: &str, value: &str) -> Fields {
    for field in &mut fields {
        if field.0 == name {
            field.1 = value.into();
        }
    }
    fields
}
