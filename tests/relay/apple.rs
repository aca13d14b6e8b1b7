//! The shim: what each quirk does, that it is counted, and what becomes of a client without it.

use std::collections::BTreeMap;

use masque_relay::{
    apple::{EVERY, Quirk},
    probe::Http,
    proto::{head::Head, settings::Settings, template::Template},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{Client, Relay, on_versions, udp::UdpTarget, until};

/// The status of one request: that for a UDP tunnel, changed.
async fn status(client: &Client, target: &UdpTarget, change: impl FnOnce(&mut Head)) -> u16 {
    let mut head = client.options().udp_head(&target.address().ip().to_string(), target.address().port());
    change(&mut head);
    client.request(&head).await.unwrap().answer().await.unwrap().status
}

fn set(head: &mut Head, name: &str, value: &str) {
    let (_, old) = head.fields.iter_mut().find(|(known, _)| known == name.as_bytes()).expect("the field is there");
    *old = value.to_owned().into();
}

on_versions!(what_each_does_can_be_switched_off_and_is_counted: h2 h3);
async fn what_each_does_can_be_switched_off_and_is_counted(http: Http) {
    let target = UdpTarget::echo().await;
    for (quirk, on, off) in [
        (Quirk::WellKnown, 200, 404),
        (Quirk::Draft03, 501, 405),
        (Quirk::Bind, 501, 400),
        (Quirk::ConnectIp, 501, 404),
        (Quirk::OwnFields, 200, 200),
    ] {
        for switched in [true, false] {
            let relay = Relay::spawn(|config| {
                config.templates = vec![Template::parse("https://relay.test/masque/{target_host}/{target_port}").unwrap()];
                // Of a path that is served there is only one.
                for other in EVERY {
                    config.apple.set(other, other == Quirk::WellKnown);
                }
                config.apple.set(quirk, switched);
            })
            .await;
            let client = relay.client_over(http).await;
            let status = status(&client, &target, |head| match quirk {
                Quirk::WellKnown => {}
                Quirk::Draft03 => {
                    head.fields.retain(|(name, _)| name != &b":protocol"[..]);
                    set(head, ":method", "CONNECT-UDP");
                }
                Quirk::Bind => set(head, ":path", "/.well-known/masque/udp/%2A/%2A/"),
                Quirk::ConnectIp => set(head, ":path", "/.well-known/masque/ip/%2A/%2A/"),
                Quirk::OwnFields => head.push("proxy-quic-forwarding", "?1"),
                Quirk::OldDatagrams | Quirk::Hints => unreachable!(),
            });
            assert_eq!(status.await, if switched { on } else { off }, "{quirk:?} {switched}");
            let counted = relay.metrics().quirks.get(quirk.name()).copied();
            assert_eq!(counted, switched.then_some(1), "{quirk:?}");
            relay.finish().await;
        }
    }
}

#[tokio::test]
async fn a_configured_template_is_served_with_and_without_the_well_known_path() {
    let target = UdpTarget::echo().await;
    for on in [true, false] {
        let relay = Relay::spawn(|config| {
            config.templates = vec![Template::parse("https://relay.test/masque/{target_host}/{target_port}").unwrap()];
            config.apple.set(Quirk::WellKnown, on);
        })
        .await;
        let client = relay.client().await;
        let path = format!("/masque/{}/{}", target.address().ip(), target.address().port());
        assert_eq!(status(&client, &target, |head| set(head, ":path", &path)).await, 200);
        assert_eq!(relay.metrics().quirks, BTreeMap::new());
        relay.finish().await;
    }
}

#[tokio::test]
async fn old_datagrams_are_counted_and_told() {
    for (on, id) in [(true, 0x276), (true, 0x00ff_d277), (false, 0x276)] {
        let relay = Relay::spawn(|config| config.apple.set(Quirk::OldDatagrams, on)).await;
        let client = relay.client_with(|options| options.settings = Settings(vec![(0x33, 1), (id, 1)])).await;
        let target = UdpTarget::echo().await;
        assert_eq!(status(&client, &target, |_| {}).await, 200);
        if on {
            until("it to be counted", || relay.metrics().quirks, |quirks| quirks.get("old_datagrams") == Some(&1)).await;
            relay.logged("the datagrams of an old draft").await;
        } else {
            assert_eq!(relay.metrics().quirks, BTreeMap::new());
        }
        relay.finish().await;
    }
}

#[tokio::test]
async fn a_refusal_that_the_profile_explains_is_explained() {
    let target = UdpTarget::echo().await;
    for on in [true, false] {
        let relay = Relay::spawn(|config| config.apple.set(Quirk::Hints, on)).await;
        let stranger = relay.stranger_over(Http::H3).await;
        assert_eq!(status(&stranger, &target, |_| {}).await, 407);
        let client = relay.client().await;
        assert_eq!(status(&client, &target, |head| set(head, ":path", "/proxy/a/1/")).await, 404);
        let (secret, template) = (relay.logged("no credentials").await, relay.logged("no template makes this path").await);
        assert_eq!(secret.contains("the profile's AdditionalHTTPHeaderFields must carry it"), on, "{secret}");
        assert_eq!(template.contains("HTTP3RelayURL under `templates`"), on, "{template}");
        relay.finish().await;
    }
}

#[tokio::test]
async fn a_client_without_tls_is_told_from_one_with_bad_tls() {
    let relay = Relay::spawn(|_| {}).await;
    let mut plain = TcpStream::connect(relay.address()).await.unwrap();
    plain.write_all(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n").await.unwrap();
    let line = relay.logged("handshake failed").await;
    assert!(line.contains("the URL must start with https://, not http://"), "{line}");
    drop(plain);
    relay.finish().await;
}
