//! Section D: what the answer says.

mod credentials;
mod denials;
mod discarded;

use hickory_resolver::proto::{op::ResponseCode, rr::RecordType};
use masque_relay::probe::{Answer, Http, ProbeError, StreamEnd};
use proptest::{prelude::*, strategy::ValueTree, string::string_regex, test_runner::TestRunner};
use sfv::{BareItem, ListEntry, Parser};

use crate::support::{
    Client, Relay,
    dns::Reply,
    on_versions,
    request::{accepted, answer_to, assert_accepted, assert_refused, method, path, refusal, set, tcp, try_ask, udp, values},
    tcp::{TcpEcho, closed_port},
};

on_versions!(c37_success_is_200_without_content_fields: h1 h2 h3);

async fn c37_success_is_200_without_content_fields(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    for fields in [udp(&client, &path("127.0.0.1", "9")), tcp(&client, &echo.address().to_string())] {
        let answer = accepted(&client, fields, "a good request").await;
        for name in ["content-length", "content-type", "transfer-encoding"] {
            assert_eq!(values(&answer, name), [""; 0], "{name}");
        }
    }
    relay.finish().await;
}

on_versions!(c38_capsule_protocol_is_exact_and_only_where_it_belongs: h1 h2 h3);

async fn c38_capsule_protocol_is_exact_and_only_where_it_belongs(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
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

on_versions!(c39_every_rejection_has_one_proxy_status_member_with_an_error: h1 h2 h3);

async fn c39_every_rejection_has_one_proxy_status_member_with_an_error(http: Http) {
    let relay = Relay::spawn(|config| {
        // A connection of HTTP/1.1 has no more anyway.
        config.limits.tunnels_per_connection = 1;
        config.limits.tunnels = 1;
    })
    .await;
    let client = relay.client_over(http).await;
    let stranger = relay.stranger_over(http).await;
    let good = udp(&client, &path("127.0.0.1", "9"));
    let mut large = good.clone();
    large.push(("x-large".into(), "v".repeat(20_000)));
    let _held = client.connect_udp("127.0.0.1", 9).await.unwrap();
    for (client, status, fields) in [
        (&client, 400, udp(&client, &path("127.0.0.1", "0"))),
        (&client, 400, tcp(&client, "127.0.0.1")),
        (&client, 404, udp(&client, "/elsewhere/")),
        (&client, 405, method(&client, "GET")),
        (&stranger, 407, udp(&stranger, &path("127.0.0.1", "9"))),
        (&client, 431, large),
        (&client, 501, set(good.clone(), ":protocol", "x-none")),
        (&client, 502, tcp(&client, "127.0.0.1:25")),
        (&client, 503, good),
    ] {
        let answer = answer_to(client, fields.clone(), "a bad request").await;
        assert_eq!(answer.status, status, "{fields:?}");
        let members = values(&answer, "proxy-status");
        if (http, status) == (Http::H2, 431) {
            assert_eq!(members, [""; 0], "the h2 crate's answer, not the relay's");
            continue;
        }
        let [member] = &members[..] else { panic!("{fields:?}: {members:?}") };
        assert!(matches!(parameters(member)["error"], BareItem::Token(_)), "{member}");
    }
    relay.finish().await;
}

on_versions!(c40_statuses_follow_the_registry: h1 h2 h3);

async fn c40_statuses_follow_the_registry(http: Http) {
    let relay = Relay::spawn(|config| config.limits.tunnels = 1).await;
    let client = relay.client_over(http).await;
    assert_refused(&client, tcp(&client, &closed_port().to_string()), 502, "connection_refused", "nobody listens").await;
    assert_refused(&client, tcp(&client, "nowhere.test:80"), 502, "dns_error", "no such name").await;
    assert_refused(&client, udp(&client, &path("nowhere.test", "9")), 502, "dns_error", "no such name").await;
    assert_refused(&client, tcp(&client, "127.0.0.1"), 400, "http_request_error", "no port").await;
    let _held = client.connect_udp("127.0.0.1", 9).await.unwrap();
    assert_refused(&client, udp(&client, &path("127.0.0.1", "9")), 503, "connection_limit_reached", "one tunnel too many").await;
    relay.finish().await;
}

on_versions!(c41_a_dns_error_names_the_rcode_and_the_extended_error: h1 h2 h3);

async fn c41_a_dns_error_names_the_rcode_and_the_extended_error(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    let servfail = ResponseCode::ServFail;
    for (name, reply, rcode, info_code) in [
        ("none.test", Reply::Error(ResponseCode::NXDomain), "NXDOMAIN", None),
        ("broken.test", Reply::Error(servfail), "SERVFAIL", None),
        ("refused.test", Reply::Error(ResponseCode::Refused), "REFUSED", None),
        ("empty.test", Reply::Addresses(vec![]), "NOERROR", None),
        // DNSSEC Bogus, Prohibited, Blocked, Filtered (RFC 8914 §4); the last two are what Apple's client looks for.
        ("bogus.test", Reply::Extended(servfail, 6), "SERVFAIL", Some(6)),
        ("prohibited.test", Reply::Extended(ResponseCode::Refused, 18), "REFUSED", Some(18)),
        ("blocked.test", Reply::Extended(ResponseCode::NXDomain, 15), "NXDOMAIN", Some(15)),
        ("filtered.test", Reply::Extended(ResponseCode::NoError, 17), "NOERROR", Some(17)),
    ] {
        relay.dns.always(name, &reply);
        for fields in [tcp(&client, &format!("{name}:80")), udp(&client, &path(name, "9"))] {
            let (status, proxy_status) = refusal(&client, fields, name).await;
            assert_eq!(status, 502, "{name}: {proxy_status}");
            let parameters = parameters(&proxy_status);
            let BareItem::String(seen) = &parameters["rcode"] else { panic!("{name}: {proxy_status}") };
            assert_eq!(seen.as_str(), rcode, "{name}");
            assert_eq!(parameters.get("info-code"), info_code.map(BareItem::from).as_ref(), "{name}");
        }
    }
    // It belongs to its answer: the next one has none.
    relay.dns.always("bogus.test", &Reply::Error(servfail));
    let (_, proxy_status) = refusal(&client, tcp(&client, "bogus.test:80"), "bogus.test").await;
    assert_eq!(proxy_status, r#"masque-relay;error=dns_error;rcode="SERVFAIL""#);
    relay.finish().await;
}

on_versions!(c41_one_family_with_an_extended_error_is_enough: h1 h2 h3);

async fn c41_one_family_with_an_extended_error_is_enough(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for (name, filtered) in [("four.test", RecordType::A), ("six.test", RecordType::AAAA)] {
        relay.dns.always(name, &Reply::Addresses(vec![]));
        relay.dns.script(name, filtered, vec![Reply::Extended(ResponseCode::NoError, 17)]);
        let (_, proxy_status) = refusal(&client, tcp(&client, &format!("{name}:80")), name).await;
        assert_eq!(proxy_status, r#"masque-relay;error=dns_error;rcode="NOERROR";info-code=17"#, "{name}");
    }
    relay.finish().await;
}

on_versions!(c42_success_names_the_next_hop: h1 h2 h3);

async fn c42_success_names_the_next_hop(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    let authority = echo.address().to_string();
    relay.dns.addresses("target.test", &[echo.address().ip()]);
    for (fields, hop) in [
        (udp(&client, &path("127.0.0.1", "9")), "127.0.0.1:9"),
        (udp(&client, &path("%3A%3A1", "9")), "[::1]:9"),
        (udp(&client, &path("target.test", "9")), "127.0.0.1:9"),
        (tcp(&client, &authority), &authority),
        (tcp(&client, &format!("target.test:{}", echo.address().port())), &authority),
    ] {
        let proxy_status = assert_accepted(&client, fields, hop).await;
        let parameters = parameters(&proxy_status);
        let BareItem::String(seen) = &parameters["next-hop"] else { panic!("{hop}: {proxy_status}") };
        assert_eq!(seen.as_str(), hop);
        assert!(!parameters.contains_key("error"), "{proxy_status}");
    }
    relay.finish().await;
}

on_versions!(c43_proxy_status_holds_no_raw_client_input: h1 h2 h3);

async fn c43_proxy_status_holds_no_raw_client_input(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for host in ["a\"b", "a\\b", "a,b=c;d", "%22%3Berror%3Dx", "%c3%a9", "a%0Ab", "\u{e9}"] {
        assert_clean_refusals(&client, host).await;
    }
    relay.finish().await;
}

on_versions!(c43_whatever_the_host_is_called_proxy_status_parses: h1 h2 h3);

async fn c43_whatever_the_host_is_called_proxy_status_parses(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    // Most are malformed, some are names that do not exist.
    let hosts = prop_oneof![
        string_regex("[a-c.\"\\\\;,=%/:@ \\[\\]0-9-]{0,40}").unwrap(),
        string_regex("(%[0-9a-fA-F]{2}|[a-z]){1,20}").unwrap(),
        proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
        string_regex("[a-z]{1,9}[.]x-[a-z]{1,9}").unwrap(),
    ];
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        assert_clean_refusals(&client, &hosts.new_tree(&mut runner).unwrap().current()).await;
    }
    relay.finish().await;
}

/// No target has this host, and what the relay says to that is well-formed, for UDP, TCP and as a protocol.
async fn assert_clean_refusals(client: &Client, host: &str) {
    for fields in [
        udp(client, &path(host, "9")),
        tcp(client, &format!("{host}:80")),
        set(udp(client, &path("127.0.0.1", "9")), ":protocol", host),
        method(client, host),
    ] {
        let answer = match try_ask(client, &fields).await {
            Ok(mut exchange) => exchange.answer().await.unwrap_or_else(|error| panic!("{fields:?}: {error}")),
            // HTTP/2's library and HTTP/1.1's form hold less than HTTP/3's fields.
            Err(ProbeError::Unanswered(StreamEnd::Unsendable(_))) if client.http() != Http::H3 => continue,
            Err(error) => panic!("{fields:?}: {error}"),
        };
        assert!(answer.status >= 400, "{fields:?}: {}", answer.status);
        let members = values(&answer, "proxy-status");
        let [proxy_status] = &members[..] else { panic!("{fields:?}: {members:?}") };
        assert!(proxy_status.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && proxy_status.len() < 300, "{fields:?}: {proxy_status:?}");
        let parameters = parameters(proxy_status);
        assert!(matches!(parameters["error"], BareItem::Token(_)), "{fields:?}: {proxy_status}");
        let known = ["error", "details", "rcode", "next-hop"];
        assert!(parameters.keys().all(|key| known.contains(&key.as_str())), "{fields:?}: {proxy_status}");
    }
}

/// The parameters of the one member of a list, which is this relay's (RFC 9209 §2, RFC 9651).
fn parameters(proxy_status: &str) -> sfv::Parameters {
    let list: sfv::List = Parser::new(proxy_status).parse().unwrap_or_else(|error| panic!("{proxy_status}: {error}"));
    let [ListEntry::Item(member)] = &list[..] else { panic!("{proxy_status}") };
    assert!(matches!(&member.bare_item, BareItem::Token(name) if name.as_str() == "masque-relay"), "{proxy_status}");
    member.params.clone()
}
