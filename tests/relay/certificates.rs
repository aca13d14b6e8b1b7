//! Client certificates: who a client is by the one it shows, and which ones do not count.

use std::sync::Arc;

use masque_relay::{
    certs::facts::Facts,
    probe::{self, Http, Options, ProbeError},
};

use crate::support::{
    Relay, TOKEN, USER,
    identities::{Clients, DAY, leaf, refused, showing},
    on_versions,
    tcp::TcpEcho,
    tls::RawKey,
    tunnels::assert_works,
    within,
};

/// The handshake ends with an alert, which over TCP a client sees behind its own end of it.
async fn assert_alerted(options: Options, echo: &TcpEcho) {
    let target = echo.address().to_string();
    let tried = async {
        let client = probe::Client::open(options).await?;
        let tunnel = client.connect_tcp(&target).await;
        client.shut().await;
        tunnel.map(drop)
    };
    let error: ProbeError = within("the alert", tried).await.unwrap_err();
    assert!(error.refused().is_none(), "{error}");
    assert_eq!(echo.accepted(), 0);
}

on_versions!(c46_a_client_certificate_counts_as_a_credential: h1 h2 h3);
async fn c46_a_client_certificate_counts_as_a_credential(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let client = relay.open(showing(&relay, http, &clients.alice())).await;
    assert_works(&client, &echo).await;
    let line = relay.logged("tunnel closed").await;
    assert!(line.contains("alice"), "{line}");
    let record =
        serde_json::to_string(&relay.recorded("a record of alice", |record| format!("{record:?}").contains("alice")).await).unwrap();
    assert!(!record.contains("CERTIFICATE") && !record.contains("PRIVATE"), "{record}");

    // A token still counts.
    let mut options = relay.options();
    options.http = http;
    assert_works(&relay.open(options).await, &echo).await;
    relay.finish().await;
}

on_versions!(c46_without_certificate_or_token_there_is_407: h1 h2 h3);
async fn c46_without_certificate_or_token_there_is_407(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let mut options = relay.stranger();
    options.http = http;
    assert_eq!(refused(&relay, options, &echo).await, 407);
    // Who says a token is judged by it, whatever else it has.
    let mut options = showing(&relay, http, &clients.alice());
    options.basic(USER, &format!("{TOKEN}x"));
    assert_eq!(refused(&relay, options, &echo).await, 407);
    relay.finish().await;
}

on_versions!(c46_a_certificate_of_another_ca_is_refused_in_the_handshake: h1 h2 h3);
async fn c46_a_certificate_of_another_ca_is_refused_in_the_handshake(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    assert_alerted(showing(&relay, http, &Clients::new().alice()), &echo).await;
    let line = relay.logged("the client's certificate is refused").await;
    assert!(line.contains("INFO") || line.contains("info"), "{line}");
    relay.finish().await;
}

on_versions!(c46_an_expired_certificate_is_refused_in_the_handshake: h1 h2 h3);
async fn c46_an_expired_certificate_is_refused_in_the_handshake(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let expired = clients.authority.client("alice", DAY, clients.now - 10 * DAY).unwrap();
    assert_alerted(showing(&relay, http, &expired), &echo).await;
    let line = relay.logged("the client's certificate is refused").await;
    assert!(line.to_lowercase().contains("expired"), "{line}");
    relay.finish().await;
}

on_versions!(c46_a_revoked_certificate_gets_407: h1 h2 h3);
async fn c46_a_revoked_certificate_gets_407(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let (first, second, third) = (clients.alice(), clients.alice(), clients.alice());
    let facts = |pair| Facts::read(&leaf(pair)).unwrap();
    let relay = Relay::spawn(|config| {
        config.access.client_ca = Some(clients.file());
        let revoked = [facts(&first).sha256, facts(&second).serial];
        config.access.revoked = revoked.iter().map(|one| masque_relay::config::revocable(one).unwrap()).collect();
    })
    .await;
    for revoked in [&first, &second] {
        assert_eq!(refused(&relay, showing(&relay, http, revoked), &echo).await, 407);
        relay.logged("it is revoked").await;
    }
    assert_works(&relay.open(showing(&relay, http, &third)).await, &echo).await;
    relay.finish().await;
}

on_versions!(c46_a_client_certificate_counts_where_the_relay_shows_a_raw_public_key: h1 h2 h3);
async fn c46_a_client_certificate_counts_where_the_relay_shows_a_raw_public_key(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let pinning = |mut options: Options| {
        options.roots.clear();
        options.verifier = Some(Arc::new(RawKey::of(&relay)));
        options
    };
    // One of another CA is refused there too, and so is a client without one.
    assert_alerted(pinning(showing(&relay, http, &Clients::new().alice())), &echo).await;
    relay.logged("the client's certificate is refused").await;
    let mut options = pinning(relay.stranger());
    options.http = http;
    assert_eq!(refused(&relay, options, &echo).await, 407);

    assert_works(&relay.open(pinning(showing(&relay, http, &clients.alice()))).await, &echo).await;
    let line = relay.logged("tunnel closed").await;
    assert!(line.contains("alice"), "{line}");
    relay.finish().await;
}

on_versions!(c46_a_resumed_session_keeps_its_certificate: h1 h2 h3);
async fn c46_a_resumed_session_keeps_its_certificate(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let client = relay.open(showing(&relay, http, &clients.alice())).await;
    assert_works(&client, &echo).await;
    let tickets = client.options().tickets.clone();
    within("a session ticket", tickets.early_data(1)).await;
    let again = relay.open(client.again()).await;
    assert_eq!(tickets.taken(), 1, "resumption was tried");
    assert_works(&again, &echo).await;
    relay.finish().await;
}
