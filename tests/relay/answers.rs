//! Section D: what the answer says.

use masque_relay::probe::Answer;

use crate::support::{
    Relay,
    request::{accepted, answer_to, ask, assert_accepted, assert_refused, path, refusal, set, tcp, udp, values},
    tcp::TcpEcho,
};

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
