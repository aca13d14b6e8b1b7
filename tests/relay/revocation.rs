//! Somebody's credential is taken away from a running relay: what was opened with it ends, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    certs::facts::Facts,
    config::{Config, revocable},
    ended::Reset,
    fault::Fault,
    probe::{Http, TcpTunnel, UdpTunnel},
};

use crate::support::{
    Client, Relay, TOKEN, USER,
    dns::Reply,
    identities::{Clients, DAY, leaf, refused, showing},
    on_versions,
    tcp::TcpEcho,
    token,
    tunnels::{assert_closed, assert_echoes, assert_echoes_udp, assert_reset, assert_works, open_tcp, open_udp},
    udp::UdpTarget,
};

/// A client with a tunnel of each kind.
struct Busy {
    client: Client,
    tcp: TcpTunnel,
    udp: UdpTunnel,
}

impl Busy {
    async fn open(client: Client, tcp: &TcpEcho, udp: &UdpTarget) -> Self {
        let mut busy = Self { tcp: open_tcp(&client, tcp).await, udp: open_udp(&client, udp).await, client };
        busy.assert_lives().await;
        busy
    }

    async fn assert_lives(&mut self) {
        assert_echoes(&mut self.tcp).await;
        assert_echoes_udp(&mut self.udp, b"there and back").await;
    }

    /// Its tunnels are reset, and its connection is closed in peace; gives the client back, which may still be of use on HTTP/1.1.
    async fn assert_ended(mut self, http: Http) {
        assert_reset(&self.tcp.ended().await, http, Reset::Cancelled, "tcp");
        assert_reset(&self.udp.ended().await, http, Reset::Cancelled, "udp");
        if http != Http::H1 {
            assert_closed(&self.client, http.code(Reset::Nothing), "revoked").await;
        }
    }
}

/// A relay with a user beside [`USER`].
async fn relay_of_two() -> Relay {
    Relay::spawn(|config| config.access.tokens.push(token("bob", "bob-secret"))).await
}

async fn bob(relay: &Relay, http: Http) -> Client {
    let mut options = relay.stranger();
    options.http = http;
    options.basic("bob", "bob-secret");
    relay.open(options).await
}

on_versions!(c80_tunnels_of_a_user_whose_token_is_gone_end: h1 h2 h3);
async fn c80_tunnels_of_a_user_whose_token_is_gone_end(http: Http) {
    let (relay, tcp, udp) = (relay_of_two().await, TcpEcho::start().await, UdpTarget::echo().await);
    let mut user = Busy::open(relay.client_over(http).await, &tcp, &udp).await;
    let mut bob = Busy::open(bob(&relay, http).await, &tcp, &udp).await;

    // Read again unchanged, and with another user: nobody's tunnels end.
    relay.reread(|_| ());
    relay.reread(|config| config.access.tokens.insert(0, token("carol", "carol-secret")));
    user.assert_lives().await;
    bob.assert_lives().await;

    relay.reread(|config| config.access.tokens.retain(|token| &*token.user != "bob"));
    bob.assert_ended(http).await;
    let line = relay.logged("the user's credential no longer counts").await;
    assert!(line.contains("bob") && line.contains("tunnel closed"), "{line}");
    assert_eq!(relay.metrics().ended.get("revoked"), Some(&2));
    user.assert_lives().await;
    assert_works(&user.client, &tcp).await;
    drop(user);
    relay.finish().await;
}

on_versions!(c80_another_token_of_the_same_user_is_another_credential: h2 h3);
async fn c80_another_token_of_the_same_user_is_another_credential(http: Http) {
    let (relay, tcp, udp) = (relay_of_two().await, TcpEcho::start().await, UdpTarget::echo().await);
    let bob = Busy::open(bob(&relay, http).await, &tcp, &udp).await;
    relay.reread(|config| config.access.tokens[1] = token("bob", "bobs-new-secret"));
    bob.assert_ended(http).await;
    relay.finish().await;
}

on_versions!(c80_what_was_open_to_all_ends_when_access_is_closed: h2 h3);
async fn c80_what_was_open_to_all_ends_when_access_is_closed(http: Http) {
    let relay = Relay::spawn(|config| config.access.open = true).await;
    let (tcp, udp) = (TcpEcho::start().await, UdpTarget::echo().await);
    let stranger = Busy::open(relay.stranger_over(http).await, &tcp, &udp).await;
    relay.reread(|config| config.access.open = false);
    stranger.assert_ended(http).await;
    // And the other way round nobody loses anything.
    let mut user = Busy::open(relay.client_over(http).await, &tcp, &udp).await;
    relay.reread(|config| (config.access.open, config.access.tokens) = (true, Vec::new()));
    user.assert_lives().await;
    drop(user);
    relay.finish().await;
}

on_versions!(c80_who_is_revoked_while_a_name_is_looked_up_is_refused: h1 h2 h3);
async fn c80_who_is_revoked_while_a_name_is_looked_up_is_refused(http: Http) {
    let (relay, tcp) = (relay_of_two().await, TcpEcho::start().await);
    relay.dns.always("held.test", &Reply::Held(Box::new(Reply::Addresses(vec![tcp.address().ip()]))));
    let client = bob(&relay, http).await;
    let target = format!("held.test:{}", tcp.address().port());
    let revoked = async {
        relay.dns.asked("held.test", 1).await;
        relay.reread(|config| config.access.tokens.truncate(1));
        relay.dns.release();
    };
    let (refused, ()) = tokio::join!(client.connect_tcp(&target), revoked);
    assert_eq!(refused.unwrap_err().refused().unwrap().status, 407);
    relay.finish().await;
}

/// A client that keeps its connection busy without being let in is let go all the same.
#[tokio::test]
async fn c80_half_a_request_keeps_no_connection_whose_client_is_revoked() {
    let relay = Relay::spawn(|config| {
        config.access.tokens.push(token("bob", "bob-secret"));
        config.timeouts.authenticate = Duration::from_millis(500);
        config.timeouts.head = Duration::from_secs(60);
    })
    .await;
    let (tcp, client) = (TcpEcho::start().await, bob(&relay, Http::H3).await);
    // The connection has its whole life to begin a request; it is read before the tunnel's end is.
    let (mut half, tunnel) = (client.exchange().await.unwrap(), open_tcp(&client, &tcp).await);
    half.send.send_raw(Bytes::from_static(&[0x01])).await.unwrap();
    assert_works(&client, &tcp).await;
    relay.reread(|config| config.access.tokens.truncate(1));
    assert_closed(&client, Http::H3.code(Reset::Nothing), "revoked").await;
    drop((half, tunnel));
    relay.finish().await;
}

/// A connection goes on for whoever else uses it.
#[tokio::test]
async fn c80_a_connection_goes_on_while_a_tunnel_of_another_user_runs_on_it() {
    for http in [Http::H2, Http::H3] {
        let (relay, tcp) = (relay_of_two().await, TcpEcho::start().await);
        let client = relay.client_over(http).await;
        let mut own = open_tcp(&client, &tcp).await;
        let mut head = client.options().tcp_head(&tcp.address().to_string());
        head.fields.retain(|(name, _)| name != "proxy-authorization");
        head.push("proxy-authorization", "Bearer bob-secret");
        let mut bobs = client.request(&head).await.unwrap().tcp().await.unwrap();
        assert_echoes(&mut bobs).await;
        relay.reread(|config| config.access.tokens.retain(|token| &*token.user != "bob"));
        assert_reset(&bobs.ended().await, http, Reset::Cancelled, "bob's");
        assert_echoes(&mut own).await;
        assert_works(&client, &tcp).await;
        drop((own, bobs));
        relay.finish().await;
    }
}

fn takes(clients: &Clients) -> impl Fn(&mut Config) {
    let file = clients.file();
    move |config| config.access.client_ca = Some(file.clone())
}

on_versions!(c80_tunnels_of_a_revoked_certificate_end: h1 h2 h3);
async fn c80_tunnels_of_a_revoked_certificate_end(http: Http) {
    let (clients, tcp, udp) = (Clients::new(), TcpEcho::start().await, UdpTarget::echo().await);
    let relay = clients.relay().await;
    let (lost, kept) = (clients.alice(), clients.alice());
    let mut kept = Busy::open(relay.open(showing(&relay, http, &kept)).await, &tcp, &udp).await;
    let busy = Busy::open(relay.open(showing(&relay, http, &lost)).await, &tcp, &udp).await;
    let serial = revocable(&Facts::read(&leaf(&lost)).unwrap().serial).unwrap();
    relay.reread(|config| config.access.revoked.push(serial));
    busy.assert_ended(http).await;
    kept.assert_lives().await;
    assert_eq!(relay.metrics().ended.get("revoked"), Some(&2));
    drop(kept);
    relay.finish().await;
}

on_versions!(c80_tunnels_end_when_a_certificate_expires: h2 h3);
async fn c80_tunnels_end_when_a_certificate_expires(http: Http) {
    let (clients, tcp, udp) = (Clients::new(), TcpEcho::start().await, UdpTarget::echo().await);
    let relay = clients.relay().await;
    // A day is over in three seconds.
    let short = clients.authority.client("alice", DAY, clients.now - DAY + Duration::from_secs(3)).unwrap();
    let busy = Busy::open(relay.open(showing(&relay, http, &short)).await, &tcp, &udp).await;
    busy.assert_ended(http).await;
    relay.finish().await;
}

on_versions!(c80_tunnels_end_with_the_ca_that_let_their_client_in: h1 h2 h3);
async fn c80_tunnels_end_with_the_ca_that_let_their_client_in(http: Http) {
    let (clients, others) = (Clients::new(), Clients::new());
    let (tcp, udp) = (TcpEcho::start().await, UdpTarget::echo().await);
    let relay = clients.relay().await;
    let mut busy = Busy::open(relay.open(showing(&relay, http, &clients.alice())).await, &tcp, &udp).await;
    // Beside another CA it counts still; the file is looked at without being told.
    std::fs::write(clients.file(), [clients.authority.pem(), others.authority.pem()].concat()).unwrap();
    relay.reload().look(crate::support::now()).unwrap();
    busy.assert_lives().await;
    std::fs::write(clients.file(), others.authority.pem()).unwrap();
    relay.reload().look(crate::support::now()).unwrap();
    busy.assert_ended(http).await;
    relay.finish().await;
}

on_versions!(c80_certificates_count_from_when_a_ca_is_named: h1 h2 h3);
async fn c80_certificates_count_from_when_a_ca_is_named(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = Relay::spawn(|_| ()).await;
    assert_eq!(refused(&relay, showing(&relay, http, &clients.alice()), &echo).await, 407);
    relay.reread(takes(&clients));
    assert_works(&relay.open(showing(&relay, http, &clients.alice())).await, &echo).await;
    relay.finish().await;
}

// The fault `client-cert` takes whatever is shown: that lets a connection in, never a request.
on_versions!(c46_a_certificate_that_nobody_has_verified_is_no_credential: h2 h3);
async fn c46_a_certificate_that_nobody_has_verified_is_no_credential(http: Http) {
    let (clients, others, echo) = (Clients::new(), Clients::new(), TcpEcho::start().await);
    let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, vec![Fault::ClientCert])).await;
    let mut options = showing(&relay, http, &clients.alice());
    options.basic(USER, TOKEN);
    let client = relay.open(options).await;
    assert_works(&client, &echo).await;
    let mut head = client.options().tcp_head(&echo.address().to_string());
    head.fields.retain(|(name, _)| name != "proxy-authorization");
    for (ca, status) in [(None, 407), (Some(&others), 407), (Some(&clients), 200)] {
        if let Some(ca) = ca {
            relay.reread(takes(ca));
        }
        let answer = client.request(&head).await.unwrap().tcp().await;
        let seen = answer.map_or_else(|error| error.refused().unwrap_or_else(|| panic!("{error}")).status, |_| 200);
        assert_eq!(seen, status, "{http:?}");
    }
    relay.finish().await;
}
