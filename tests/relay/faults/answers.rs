//! Faults of answers: what a request gets in place of what it asked for.

use masque_relay::{
    ended::Reset,
    probe::{Closed, Http, ProbeError, StreamEnd},
};

use super::{open, shows, tcp, udp};
use crate::support::{Relay, tcp::TcpEcho, udp::UdpTarget};

#[tokio::test]
async fn connect_reset() {
    shows("connect-reset", async |relay, http| {
        let (to_tcp, to_udp) = (TcpEcho::start().await, UdpTarget::echo().await);
        let reset = match tcp(&open(relay, http).await, &to_tcp).await {
            Ok(_) => false,
            // It hangs up in the middle of what the client says.
            Err(ProbeError::Closed(_)) if http == Http::H1 => true,
            Err(ProbeError::Unanswered(end)) => http == Http::H1 || end.is_reset(http, Reset::Message),
            Err(error) => panic!("{http}: {error}"),
        };
        udp(&open(relay, http).await, &to_udp).await.unwrap();
        reset
    })
    .await;
}

/// Both kinds of request are refused with this status; gives Proxy-Status.
async fn refused(relay: &Relay, http: Http, status: u16) -> Option<Option<String>> {
    let (to_tcp, to_udp) = (TcpEcho::start().await, UdpTarget::echo().await);
    let (one, other) = (open(relay, http).await, open(relay, http).await);
    match (tcp(&one, &to_tcp).await, udp(&other, &to_udp).await) {
        (Ok(_), Ok(_)) => None,
        (Err(ProbeError::Refused(one)), Err(ProbeError::Refused(other))) => {
            assert_eq!((one.status, other.status), (status, status));
            assert_eq!(one.proxy_status, other.proxy_status);
            Some(one.proxy_status)
        }
        results => panic!("{http}: {results:?}"),
    }
}

#[tokio::test]
async fn status() {
    shows("status=503", async |relay, http| {
        let Some(proxy_status) = refused(relay, http, 503).await else { return false };
        assert_eq!(proxy_status.as_deref(), Some(r#"masque-relay;error=proxy_internal_response;details="the fault `status` is on""#));
        true
    })
    .await;
}

#[tokio::test]
async fn bare_status() {
    shows("bare-status=502", async |relay, http| {
        let refused = refused(relay, http, 502).await;
        assert!(!matches!(refused, Some(Some(_))), "{refused:?}");
        refused.is_some()
    })
    .await;
}

#[tokio::test]
async fn abort_after_response() {
    shows("abort-after-response", async |relay, http| {
        let (to_tcp, to_udp) = (TcpEcho::start().await, UdpTarget::echo().await);
        let client = open(relay, http).await;
        let ends = match tcp(&client, &to_tcp).await {
            Ok(mut tunnel) => {
                tunnel.finish().unwrap();
                tunnel.ended().await
            }
            // On a machine that is busy for long the break may overtake the answer.
            Err(ProbeError::Unanswered(end)) => end,
            Err(error) => panic!("{http}: {error}"),
        };
        let client = open(relay, http).await;
        let other = match udp(&client, &to_udp).await {
            Ok(mut tunnel) => {
                tunnel.finish().unwrap();
                tunnel.ended().await
            }
            Err(ProbeError::Unanswered(end)) => end,
            Err(error) => panic!("{http}: {error}"),
        };
        let broken = |end: &StreamEnd| if http == Http::H1 { *end != StreamEnd::Finished } else { end.is_reset(http, Reset::Cancelled) };
        assert_eq!(broken(&ends), broken(&other), "{http}: {ends:?}, {other:?}");
        broken(&ends)
    })
    .await;
}

/// A refusal is broken off like a yes.
#[tokio::test]
async fn abort_after_a_refusal() {
    let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, vec!["abort-after-response".parse().unwrap()])).await;
    for http in [Http::H3, Http::H2] {
        let client = relay.client_over(http).await;
        let mut exchange = client.request(&client.options().tcp_head("nowhere.test:443")).await.unwrap();
        match exchange.answer().await {
            Ok(answer) => assert_eq!(answer.status, 502),
            Err(error) => assert!(matches!(error, ProbeError::Unanswered(_)), "{error}"),
        }
        let end = exchange.recv.ended().await;
        assert!(end.is_reset(http, Reset::Cancelled) || end == StreamEnd::EndedHere, "{http}: {end:?}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn close() {
    shows("close=0x102", async |relay, http| {
        let echo = TcpEcho::start().await;
        let client = open(relay, http).await;
        if tcp(&client, &echo).await.is_ok() {
            return false;
        }
        let Closed { by_peer, code, .. } = client.closed().await.unwrap();
        (by_peer, code) == (true, 0x102)
    })
    .await;
}

/// The field of the answer to CONNECT-UDP.
async fn capsule_protocol(relay: &Relay, http: Http) -> Option<String> {
    let echo = UdpTarget::echo().await;
    let client = open(relay, http).await;
    udp(&client, &echo).await.unwrap().answer.field("capsule-protocol")
}

#[tokio::test]
async fn no_capsule_protocol() {
    shows("no-capsule-protocol", async |relay, http| {
        let field = capsule_protocol(relay, http).await;
        assert!(matches!(field.as_deref(), None | Some("?1")), "{field:?}");
        field.is_none()
    })
    .await;
}

#[tokio::test]
async fn capsule_protocol_parameter() {
    shows("capsule-protocol-parameter", async |relay, http| {
        let field = capsule_protocol(relay, http).await.expect("the field");
        assert!(["?1", "?1;fault"].contains(&&field[..]), "{field}");
        field != "?1"
    })
    .await;
}
