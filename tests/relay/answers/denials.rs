//! How a rule's no looks, and what it keeps to itself.

use masque_relay::{
    config::{Config, Rule},
    probe::Http,
    refusal::Denial,
};

use crate::support::{
    Relay, on_versions,
    request::{answer_to, path, refusal, tcp, udp},
};

/// What a client sees of each style. An Apple device reads Proxy-Status on 5xx only.
const STYLES: [(Denial, u16, &str); 4] = [
    (Denial::Block, 502, r#"masque-relay;error=connection_refused;details="denied by a rule""#),
    (Denial::Direct, 503, r#"masque-relay;error=destination_unavailable;details="denied by a rule""#),
    (Denial::Filtered, 502, "masque-relay;error=dns_error;info-code=17"),
    (Denial::Forbidden, 403, r#"masque-relay;error=http_request_denied;details="denied by a rule""#),
];

on_versions!(c44_every_style_of_denial_can_be_chosen: h1 h2 h3);

async fn c44_every_style_of_denial_can_be_chosen(http: Http) {
    for (style, status, proxy_status) in STYLES {
        let relay = Relay::spawn(|config| {
            config.rules.denial = style;
            config.rules.list = vec![named("denied.test"), network("192.0.2.0/24")];
        })
        .await;
        relay.dns.addresses("inside.test", &["192.0.2.7".parse().unwrap()]);
        let client = relay.client_over(http).await;
        for fields in [
            tcp(&client, "denied.test:443"),
            udp(&client, &path("denied.test", "443")),
            tcp(&client, "inside.test:443"),
            udp(&client, &path("192.0.2.7", "443")),
            // Closed where no rule names it.
            tcp(&client, "127.0.0.1:25"),
        ] {
            assert_eq!(refusal(&client, fields.clone(), "denied").await, (status, proxy_status.to_owned()), "{style:?} {fields:?}");
        }
        relay.finish().await;
    }
}

on_versions!(c44_a_rule_may_have_a_style_of_its_own: h1 h2 h3);

async fn c44_a_rule_may_have_a_style_of_its_own(http: Http) {
    let hosts = ["block.test", "direct.test", "filtered.test", "forbidden.test"];
    let relay = Relay::spawn(|config| {
        let styled = |(host, (style, ..)): (&str, (Denial, u16, &str))| Rule { denial: Some(style), ..named(host) };
        config.rules.list = hosts.into_iter().zip(STYLES).map(styled).collect();
        config.rules.list.push(named("plain.test"));
    })
    .await;
    let client = relay.client_over(http).await;
    for (host, (_, status, proxy_status)) in hosts.into_iter().zip(STYLES) {
        let answer = refusal(&client, udp(&client, &path(host, "443")), host).await;
        assert_eq!(answer, (status, proxy_status.to_owned()), "{host}");
    }
    let (status, proxy_status) = refusal(&client, tcp(&client, "plain.test:443"), "no style").await;
    assert_eq!((status, proxy_status.as_str()), (502, STYLES[0].2), "the default makes a device give up, not go around");
    relay.finish().await;
}

on_versions!(c44_a_private_address_is_5xx_whatever_the_style: h1 h2 h3);

async fn c44_a_private_address_is_5xx_whatever_the_style(http: Http) {
    for (style, ..) in STYLES {
        let relay = Relay::spawn(|config| {
            config.rules.allow_private = false;
            config.rules.denial = style;
        })
        .await;
        let client = relay.client_over(http).await;
        for fields in [udp(&client, &path("10.0.0.1", "443")), tcp(&client, "10.0.0.1:443")] {
            let seen = refusal(&client, fields, "a private address").await;
            assert_eq!(seen, (502, "masque-relay;error=destination_ip_prohibited".to_owned()), "{style:?}");
        }
        relay.finish().await;
    }
}

on_versions!(c42_a_refusal_by_policy_does_not_tell_what_a_name_resolved_to: h1 h2 h3);

async fn c42_a_refusal_by_policy_does_not_tell_what_a_name_resolved_to(http: Http) {
    for change in [&(|config: &mut Config| config.rules.allow_private = false) as &dyn Fn(&mut Config), &|config| {
        config.rules.list = vec![network("10.0.0.0/8"), network("fd00::/8")];
    }] {
        let relay = Relay::spawn(change).await;
        relay.dns.addresses("secret.test", &["10.98.76.54".parse().unwrap(), "fd00::9876:5432".parse().unwrap()]);
        let client = relay.client_over(http).await;
        for fields in [tcp(&client, "secret.test:443"), udp(&client, &path("secret.test", "443"))] {
            let answer = answer_to(&client, fields, "secret.test").await;
            assert_eq!(answer.status, 502);
            let shown = format!("{:?}", answer.head);
            assert!(!shown.contains("98.76") && !shown.contains("9876"), "{shown}");
        }
        relay.finish().await;
    }
}

fn named(name: &str) -> Rule {
    Rule { names: vec![name.into()], ..Rule::default() }
}

fn network(network: &str) -> Rule {
    Rule { networks: vec![network.parse().unwrap()], ..Rule::default() }
}
