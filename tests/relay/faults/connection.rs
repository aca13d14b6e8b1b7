//! Faults of the connection: transport parameters, SETTINGS, control streams, GOAWAY, listeners, Retry, connection IDs.

use std::time::Duration;

use masque_relay::{
    fault::Fault,
    probe::{self, CriticalEnd, Http, ProbeError},
    proto::settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM},
};

use super::{open, options, shows, tcp};
use crate::support::{Relay, tap, tcp::TcpEcho};

/// RFC 9221 §3.
const MAX_DATAGRAM_FRAME_SIZE: u64 = 0x20;

#[tokio::test]
async fn no_datagram_parameter() {
    shows("no-datagram-parameter", async |relay, http| {
        let options = options(relay, http);
        let parameters = options.parameters.clone();
        probe::Client::open(options).await.unwrap();
        assert!(parameters.came());
        !parameters.has(MAX_DATAGRAM_FRAME_SIZE)
    })
    .await;
}

#[tokio::test]
async fn no_h3_datagram() {
    shows("no-h3-datagram", async |relay, http| open(relay, http).await.settings().await.unwrap().get(H3_DATAGRAM) != Some(1)).await;
}

#[tokio::test]
async fn no_extended_connect() {
    shows("no-extended-connect", async |relay, http| {
        open(relay, http).await.settings().await.unwrap().get(ENABLE_CONNECT_PROTOCOL) != Some(1)
    })
    .await;
}

#[tokio::test]
async fn settings_late() {
    shows("settings-late=1400", async |relay, http| {
        let mut options = options(relay, http);
        options.timeout = crate::support::PATIENCE;
        let client = probe::Client::open(options).await.unwrap();
        client.settings().await.unwrap();
        client.settings_timing().unwrap().settings >= Duration::from_millis(1400)
    })
    .await;
}

#[tokio::test]
async fn settings_never() {
    shows("settings-never", async |relay, http| {
        matches!(open(relay, http).await.settings().await, Err(ProbeError::TimedOut { what: "SETTINGS", .. }))
    })
    .await;
}

/// What the relay does to critical streams until a tunnel is open on it, by a client that forgives it.
async fn critical_ends(relay: &Relay, http: Http) -> Vec<CriticalEnd> {
    let echo = TcpEcho::start().await;
    let mut options = options(relay, http);
    options.forgiving = true;
    let client = probe::Client::open(options).await.unwrap();
    client.settings().await.unwrap();
    tcp(&client, &echo).await.unwrap();
    client.critical_ends()
}

#[tokio::test]
async fn stop_client_control() {
    shows("stop-client-control", async |relay, http| {
        let ends = critical_ends(relay, http).await;
        assert!(matches!(ends[..], [] | [CriticalEnd::Stopped(0, 0x100)]), "{ends:?}");
        !ends.is_empty()
    })
    .await;
}

#[tokio::test]
async fn finish_control() {
    shows("finish-control", async |relay, http| {
        let ends = critical_ends(relay, http).await;
        assert!(matches!(ends[..], [] | [CriticalEnd::Finished(0)]), "{ends:?}");
        !ends.is_empty()
    })
    .await;
}

#[tokio::test]
async fn goaway() {
    shows("goaway", async |relay, http| {
        let echo = TcpEcho::start().await;
        let client = open(relay, http).await;
        let taken = tcp(&client, &echo).await.is_ok();
        assert_eq!(taken, client.goaways().is_empty(), "{http}: a request is taken or GOAWAY has come");
        // Whatever was sent first comes first; but over HTTP/3 a rejected stream may come before GOAWAY.
        !taken && client.goaway(1).await.unwrap() == 0
    })
    .await;
}

/// A relay under `goaway` stops in order, like any other.
#[tokio::test]
async fn a_relay_that_said_goaway_can_be_drained() {
    let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, vec![Fault::Goaway])).await;
    let client = relay.client().await;
    client.goaway(1).await.unwrap();
    relay.finish().await;
}

#[tokio::test]
async fn udp_only() {
    shows("udp-only", async |relay, http| match probe::Client::open(options(relay, http)).await {
        Ok(_) => false,
        Err(ProbeError::ConnectTcp { .. }) => true,
        Err(error) => panic!("{error}"),
    })
    .await;
}

#[tokio::test]
async fn tcp_only() {
    shows("tcp-only", async |relay, http| match probe::Client::open(options(relay, http)).await {
        Ok(_) => false,
        Err(ProbeError::TimedOut { .. }) => true,
        Err(error) => panic!("{error}"),
    })
    .await;
}

#[tokio::test]
async fn retry() {
    shows("retry", async |relay, _| {
        let said = tap::handshake(relay).await;
        // RFC 9000 §17.2.5: a long header of type 3.
        said[0][0] & 0xf0 == 0xf0
    })
    .await;
}

#[tokio::test]
async fn cid() {
    for (on, length) in [(None, 8), (Some(Fault::Cid(19)), 19), (Some(Fault::Cid(4)), 4)] {
        let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, on.into_iter().collect())).await;
        let said = tap::handshake(&relay).await;
        assert_eq!(tap::source_id_length(&said[0]), length);
        relay.finish().await;
    }
}

/// Connection IDs of another length still name their worker, and lead each packet to it.
#[tokio::test]
async fn long_connection_ids_find_their_worker() {
    let relay = Relay::spawn(|config| {
        (config.fault.allow, config.fault.on) = (true, vec![Fault::Cid(19)]);
        config.workers = 2;
    })
    .await;
    let echo = TcpEcho::start().await;
    for _ in 0..8 {
        let client = relay.client().await;
        crate::support::tunnels::assert_works(&client, &echo).await;
    }
    relay.finish().await;
}
