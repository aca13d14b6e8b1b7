//! Requests right and wrong, field by field, and what the relay says to them.

use bytes::Bytes;
use masque_relay::{
    probe::{Answer, Http, ProbeError, RawExchange},
    proto::head::Head,
};

use super::{
    Client, Relay,
    h2::{Raw, Verdict, code},
};

/// A head in the making.
pub(crate) type Fields = Vec<(String, String)>;

/// The relay refuses with this status and Proxy-Status error, and one member.
pub(crate) async fn assert_refused(client: &Client, fields: Fields, status: u16, error: &str, what: &str) {
    let (seen, proxy_status) = refusal(client, fields, what).await;
    assert_eq!(seen, status, "{what}: {proxy_status}");
    let parameters: Vec<&str> = proxy_status.split(';').collect();
    assert!(parameters.contains(&format!("error={error}").as_str()), "{what}: {proxy_status}");
}

/// The relay finds this head malformed: 400 with `http_request_error`, never a reset. But on HTTP/2 the h2 crate keeps some rules itself, before
/// there is anything that could be answered: then `on_h2` comes. It is also for what no client library sends.
pub(crate) async fn assert_malformed(relay: &Relay, client: &Client, fields: Fields, on_h2: Option<Verdict>, what: &str) {
    match on_h2 {
        Some(on_h2) if client.http() == Http::H2 => {
            let mut raw = Raw::open(relay).await;
            raw.request_fields(1, &fields).await;
            assert_eq!(raw.verdict(1).await, on_h2, "{what}: {fields:?}");
        }
        _ => assert_refused(client, fields, 400, "http_request_error", what).await,
    }
}

/// On HTTP/2 too it is the relay that finds a head malformed, and says so.
pub(crate) const ANSWERED: Option<Verdict> = None;

/// It is the h2 crate, by RST_STREAM (RFC 9113 §8.1.1).
pub(crate) const RESET: Option<Verdict> = Some(Verdict::Reset(code::PROTOCOL_ERROR));

/// Status and Proxy-Status of a refusal.
pub(crate) async fn refusal(client: &Client, fields: Fields, what: &str) -> (u16, String) {
    match ask(client, &fields).await.tcp().await {
        Ok(_) => panic!("{what}: accepted"),
        Err(error) => {
            let refused = error.refused().unwrap_or_else(|| panic!("{what}: {error}"));
            (refused.status, refused.proxy_status.clone().unwrap_or_default())
        }
    }
}

/// The relay opens a tunnel. Its Proxy-Status.
pub(crate) async fn assert_accepted(client: &Client, fields: Fields, what: &str) -> String {
    values(&accepted(client, fields, what).await, "proxy-status").join(", ")
}

/// The relay opens a tunnel.
pub(crate) async fn accepted(client: &Client, fields: Fields, what: &str) -> Answer {
    let expected = success(client, &fields);
    let answer = answer_to(client, fields, what).await;
    assert_eq!(answer.status, expected, "{what}");
    answer
}

/// What opens a tunnel: 200, on HTTP/1.1 101 for one that is asked for by an upgrade.
pub(crate) fn success(client: &Client, fields: &Fields) -> u16 {
    let upgrade = client.http() == Http::H1 && fields.iter().any(|field| field.0 == ":protocol");
    if upgrade { 101 } else { 200 }
}

/// The head of the answer, whatever it says.
pub(crate) async fn answer_to(client: &Client, fields: Fields, what: &str) -> Answer {
    ask(client, &fields).await.answer().await.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// All values of a field, lossy where they are no UTF-8.
pub(crate) fn values(answer: &Answer, name: &str) -> Vec<String> {
    let fields = answer.head.fields.iter().filter(|field| field.0 == name);
    fields.map(|field| String::from_utf8_lossy(&field.1).into_owned()).collect()
}

/// The path of the well-known template, its variables as they stand.
pub(crate) fn path(host: &str, port: &str) -> String {
    format!("/.well-known/masque/udp/{host}/{port}/")
}

/// A connect-udp request as it should be, credentials included.
pub(crate) fn udp(client: &Client, path: &str) -> Fields {
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
pub(crate) fn tcp(client: &Client, authority: &str) -> Fields {
    with_credentials(client, &[(":method", "CONNECT"), (":authority", authority)])
}

/// A request by another method, credentials included.
pub(crate) fn method(client: &Client, method: &str) -> Fields {
    let fields = udp(client, &path("127.0.0.1", "9")).into_iter().filter(|field| field.0 != ":protocol").collect();
    set(fields, ":method", method)
}

fn with_credentials(client: &Client, head: &[(&str, &str)]) -> Fields {
    let mut fields: Fields = head.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    fields.extend(client.options().fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    fields
}

/// The same with another value for a field it has.
pub(crate) fn set(mut fields: Fields, name: &str, value: &str) -> Fields {
    for field in &mut fields {
        if field.0 == name {
            field.1 = value.into();
        }
    }
    fields
}

/// Sends a head as it is, right or wrong.
pub(crate) async fn ask(client: &Client, fields: &Fields) -> RawExchange {
    try_ask(client, fields).await.unwrap_or_else(|error| panic!("{fields:?}: {error}"))
}

/// The same where the version may have no way to say it.
pub(crate) async fn try_ask(client: &Client, fields: &Fields) -> Result<RawExchange, ProbeError> {
    let fields = fields.iter().map(|(name, value)| (Bytes::from(name.clone()), Bytes::from(value.clone()))).collect();
    client.request(&Head { fields }).await
}
