use super::{
    lint::{Severity, lint},
    *,
};

pub(super) fn relay() -> Relay {
    Relay {
        h3: Some("https://relay.example".into()),
        h2: Some("https://relay.example".into()),
        headers: vec![("Proxy-Authorization".into(), "Bearer test-token".into())],
        public_keys: Vec::new(),
    }
}

/// Everything a profile may have, of values that are nobody's secret.
pub(super) fn full() -> Profile {
    let second = Relay {
        h3: Some("https://second.example:8443/masque{?target_host,target_port}".into()),
        headers: vec![("X-Token".into(), "a \"quoted\" & <marked> value".into())],
        ..Relay::default()
    };
    Profile {
        organization: Some("Example Inc.".into()),
        relays: vec![Relay { public_keys: vec![public_key()], ..relay() }, second],
        authorities: vec![vec![0x30, 0]],
        identity: Some(Identity { pkcs12: vec![0x30, 0], password: Zeroizing::new("test-password".into()) }),
        matches: Matches {
            domains: vec!["corp.example".into()],
            names: vec!["www.example".into()],
            excluded_domains: vec!["public.corp.example".into()],
            excluded_names: vec!["vpn.corp.example".into()],
        },
        switchable: Some(false),
        dns_failover: Some(true),
        ..Profile::new("Example relay", relay())
    }
}

/// An Ed25519 key of RFC 8410 §10.1.
pub(super) fn public_key() -> Vec<u8> {
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend([0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96]);
    der.extend([0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1]);
    der
}

#[test]
fn the_whole_profile() {
    insta::assert_snapshot!(String::from_utf8(full().mobileconfig()).unwrap());
}

#[test]
fn the_whole_declaration() {
    insta::assert_snapshot!(full().declarations());
}

#[test]
fn the_whole_swift() {
    insta::assert_snapshot!(full().swift());
}

#[test]
fn the_same_relay_has_the_same_uuids_and_another_has_others() {
    let uuids = |profile: &Profile| {
        let xml = String::from_utf8(profile.mobileconfig()).unwrap();
        let lines = xml.lines().map(str::trim);
        let uuid = |line: &str| line.strip_prefix("<string>")?.strip_suffix("</string>").filter(|text| text.len() == 36).map(str::to_owned);
        lines.filter_map(uuid).collect::<Vec<_>>()
    };
    let mut changed = full();
    changed.name = "Another name".into();
    changed.relays[0].headers[0].1 = "Bearer another".into();
    assert_eq!(uuids(&full()), uuids(&changed));
    // Profile, CA, identity, its use, relay payload, RelayUUID.
    assert_eq!(uuids(&full()).len(), 6);
    let mut moved = full();
    moved.relays[0].h3 = Some("https://other.example".into());
    assert!(uuids(&moved).iter().all(|uuid| !uuids(&full()).contains(uuid)));
}

#[test]
fn what_is_written_passes_the_lint() {
    let complaints = lint(&Profile::new("Plain", relay()).mobileconfig());
    assert!(complaints.iter().all(|complaint| complaint.severity == Severity::Trap), "{complaints:#?}");
}

#[test]
fn the_secrets_are_named_and_debug_shows_none() {
    assert_eq!(full().secrets().len(), 2);
    let bare = Profile::new("Bare", Relay { headers: Vec::new(), ..relay() });
    assert_eq!(bare.secrets(), [""; 0]);
    let shown = format!("{:?}", full());
    assert!(!shown.contains("test-token") && !shown.contains("test-password"), "{shown}");
}

#[test]
fn a_name_for_every_host() {
    for (url, want) in [
        ("https://relay.example:4433/x/{target_host}/{target_port}", "masque-relay.relay.example"),
        ("https://[2001:db8::1]:4433", "masque-relay.2001-db8--1"),
        ("https://192.0.2.7", "masque-relay.192.0.2.7"),
        ("nonsense", "masque-relay.relay"),
    ] {
        assert_eq!(Profile::new("x", Relay { h3: Some(url.into()), ..Relay::default() }).identifier(), want);
    }
}
