//! Who asks: what counts as a credential, what comes before it, and what is kept from those who have none.

use base64::{Engine, engine::general_purpose::STANDARD};
use masque_relay::{
    config::{Rule, Token},
    probe::Http,
};

use crate::support::{
    Client, Relay, on_versions,
    request::{Fields, answer_to, assert_accepted, method, path, refusal, set, tcp, udp},
    tcp::TcpEcho,
};

/// Two users. No part of a secret is a word that the log might hold for another reason.
const ALICE: &str = "vJ3qTz8wKx0m";
const BOB: &str = "Rb5nGy2hLd7c";

on_versions!(c45_without_credentials_all_well_formed_requests_look_alike: h1 h2 h3);

async fn c45_without_credentials_all_well_formed_requests_look_alike(http: Http) {
    let deny = Rule { names: vec!["denied.test".into()], ..Rule::default() };
    let relay = Relay::spawn(|config| config.rules.list = vec![deny]).await;
    let echo = TcpEcho::start().await;
    relay.dns.addresses("there.test", &[echo.address().ip()]);
    let mut wrong = relay.stranger();
    wrong.bearer("nobody's");
    for mut options in [relay.stranger(), wrong] {
        options.http = http;
        let client = relay.open(options).await;
        let mut answers = Vec::new();
        for fields in [
            tcp(&client, &echo.address().to_string()),
            tcp(&client, &format!("there.test:{}", echo.address().port())),
            tcp(&client, "nowhere.test:80"),
            tcp(&client, "denied.test:80"),
            tcp(&client, "127.0.0.1:25"),
            tcp(&client, &relay.address().to_string()),
            udp(&client, &path("127.0.0.1", "9")),
            udp(&client, &path("there.test", "9")),
            udp(&client, &path("nowhere.test", "9")),
            udp(&client, "/elsewhere/127.0.0.1/9/"),
            set(udp(&client, &path("there.test", "9")), ":protocol", "x-none"),
            set(udp(&client, &path("there.test", "9")), ":protocol", "connect-ip"),
            method(&client, "GET"),
            method(&client, "X-NONE"),
        ] {
            answers.push((answer_to(&client, fields.clone(), "no credentials").await, fields));
        }
        for (answer, fields) in &answers {
            assert_eq!(answer.status, 407, "{fields:?}");
            assert!(answer.field("proxy-authenticate").is_some());
            assert_eq!(answer.head, answers[0].0.head, "{fields:?}");
        }
    }
    for name in ["there.test", "nowhere.test", "denied.test"] {
        assert_eq!(relay.dns.count(name), 0, "{name} was looked up for a stranger");
    }
    assert_eq!(echo.accepted(), 0);
    relay.finish().await;
}

on_versions!(c45_malformed_comes_before_unknown_unknown_before_unserved_and_unserved_before_the_rules: h1 h2 h3);

async fn c45_malformed_comes_before_unknown_unknown_before_unserved_and_unserved_before_the_rules(http: Http) {
    let deny = Rule { names: vec!["denied.test".into()], ..Rule::default() };
    let relay = Relay::spawn(|config| config.rules.list = vec![deny]).await;
    relay.dns.addresses("denied.test", &["127.0.0.1".parse().unwrap()]);
    let known = relay.client_over(http).await;
    let stranger = relay.stranger_over(http).await;
    // Everything is wrong with the first: each line mends what is worst.
    let unserved = |client: &Client, path: &str| set(udp(client, path), ":protocol", "x-none");
    for (fields, client, status) in [
        (with_two_hosts(unserved(&stranger, &path("denied.test", "9"))), &stranger, 400),
        (udp(&stranger, &path("denied.test", "0")), &stranger, 400),
        (tcp(&stranger, "denied.test"), &stranger, 400),
        (unserved(&stranger, &path("denied.test", "9")), &stranger, 407),
        (unserved(&known, &path("denied.test", "9")), &known, 501),
        (udp(&known, &path("denied.test", "9")), &known, 502),
        (tcp(&known, "denied.test:9"), &known, 502),
    ] {
        assert_eq!(refusal(client, fields.clone(), "in its turn").await.0, status, "{fields:?}");
    }
    assert_eq!(relay.dns.count("denied.test"), 0, "what a rule denies by name is not looked up");
    relay.finish().await;
}

on_versions!(c46_only_a_whole_token_of_its_own_user_counts_and_none_is_ever_logged: h1 h2 h3);

async fn c46_only_a_whole_token_of_its_own_user_counts_and_none_is_ever_logged(http: Http) {
    let relay = Relay::spawn(|config| config.access.tokens = vec![Token::new("alice", ALICE), Token::new("bob", BOB)]).await;
    // It has no credentials of its own.
    let client = relay.stranger_over(http).await;
    for value in [basic("alice", ALICE), basic("bob", BOB), bearer(ALICE), bearer(BOB)] {
        assert_accepted(&client, presenting(udp(&client, &path("127.0.0.1", "9")), &[&value]), &value).await;
    }
    let (head, tail) = ALICE.split_at(ALICE.len() - 1);
    let wrong = [
        basic("alice", BOB),
        basic("bob", ALICE),
        basic("alic", ALICE),
        basic("alicea", ALICE),
        basic("Alice", ALICE),
        basic("alice ", ALICE),
        basic("", ALICE),
        basic("nobody", ALICE),
        basic("alice", head),
        basic("alice", tail),
        basic("alice", &ALICE[1..]),
        basic("alice", &format!("{ALICE}x")),
        basic("alice", &format!("x{ALICE}")),
        basic("alice", &format!("{ALICE}{ALICE}")),
        basic("alice", &format!("{ALICE}\0")),
        basic("alice", &ALICE.to_lowercase()),
        basic("alice", &sha256_hex(ALICE)),
        basic("alice", ""),
        format!("Basic {}", STANDARD.encode(format!("alice{ALICE}"))),
        format!("Basic alice:{ALICE}"),
        bearer(head),
        bearer(&format!("{ALICE}x")),
        bearer(&format!("alice:{ALICE}")),
        bearer(&sha256_hex(ALICE)),
        "Bearer".into(),
        "Basic".into(),
        format!("Digest {ALICE}"),
        ALICE.into(),
        String::new(),
    ];
    let mut answers = Vec::new();
    for value in &wrong {
        answers.push(answer_to(&client, presenting(tcp(&client, "nowhere.test:80"), &[value]), value).await);
    }
    // Two are no credential either, though each of them would be.
    let two = presenting(tcp(&client, "nowhere.test:80"), &[&bearer(ALICE), &bearer(ALICE)]);
    answers.push(answer_to(&client, two, "two").await);
    for (answer, value) in answers.iter().zip(wrong.iter().map(String::as_str).chain(["two"])) {
        assert_eq!(answer.status, 407, "{value}");
        assert_eq!(answer, &answers[0], "{value}: an answer tells how wrong it was");
    }
    assert_eq!(relay.dns.count("nowhere.test"), 0);

    // Malformed requests, whose parts an error message might quote.
    for fields in [udp(&client, &path("127.0.0.1", "0")), with_two_hosts(udp(&client, "/")), tcp(&client, &format!("alice:{ALICE}@x:80"))] {
        let fields = presenting(fields, &[&basic("alice", ALICE)]);
        assert_eq!(refusal(&client, fields, "malformed").await.0, 400);
    }
    let log = relay.log().join("\n");
    assert_eq!(log.matches("status=407").count(), answers.len(), "the log was looked at: {log}");
    for secret in [ALICE, BOB, head, &sha256_hex(ALICE), &sha256_hex(BOB)] {
        assert!(!log.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {log}");
    }
    for value in &wrong {
        let credentials = value.split_once(' ').map_or(value.as_str(), |(_, credentials)| credentials);
        assert!(credentials.is_empty() || !log.contains(credentials), "{value} in {log}");
    }
    relay.finish().await;
}

fn basic(user: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{token}")))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn sha256_hex(text: &str) -> String {
    Token::new("", text).sha256.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same with these values of `proxy-authorization`, right or wrong.
fn presenting(mut fields: Fields, values: &[&str]) -> Fields {
    fields.extend(values.iter().map(|value| ("proxy-authorization".into(), value.to_string())));
    fields
}

/// Malformed on every version, in a way that leaves an answer.
fn with_two_hosts(mut fields: Fields) -> Fields {
    fields.extend(["relay.test", "relay.test"].map(|host| ("host".into(), host.into())));
    fields
}
