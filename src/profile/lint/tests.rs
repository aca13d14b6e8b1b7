use std::time::{Duration, UNIX_EPOCH};

use zeroize::Zeroizing;

use rustls::pki_types::pem::PemObject;

use super::*;
use crate::{
    certs::issue::Authority,
    profile::{Identity, Matches, Profile, Relay},
};

/// A profile with nothing to complain of.
fn good() -> Profile {
    let relay = Relay {
        h3: Some("https://relay.example".into()),
        h2: Some("https://relay.example".into()),
        headers: vec![("Proxy-Authorization".into(), "Bearer test".into())],
        public_keys: Vec::new(),
    };
    Profile { matches: Matches { domains: vec!["corp.example".into()], ..Matches::default() }, ..Profile::new("Good", relay) }
}

fn identity() -> Identity {
    Identity { pkcs12: p12::write(&[b"certificate"], b"key", "test", "right"), password: Zeroizing::new("right".into()) }
}

/// The profile as a dictionary, changed.
fn changed(profile: &Profile, change: impl FnOnce(&mut Dictionary)) -> Vec<u8> {
    let Value::Dictionary(mut top) = Value::from_reader(Cursor::new(profile.mobileconfig())).unwrap() else { panic!("no dictionary") };
    change(&mut top);
    let mut xml = Vec::new();
    Value::from(top).to_writer_xml(&mut xml).unwrap();
    xml
}

/// Its last payload, the one with the relays.
fn payload(top: &mut Dictionary) -> &mut Dictionary {
    let content = top.get_mut("PayloadContent").and_then(Value::as_array_mut).unwrap();
    content.last_mut().and_then(Value::as_dictionary_mut).unwrap()
}

/// The first payload of a profile that has others.
fn first(top: &mut Dictionary) -> &mut Dictionary {
    let content = top.get_mut("PayloadContent").and_then(Value::as_array_mut).unwrap();
    content.first_mut().and_then(Value::as_dictionary_mut).unwrap()
}

fn relay(top: &mut Dictionary) -> &mut Dictionary {
    payload(top).get_mut("Relays").and_then(Value::as_array_mut).unwrap()[0].as_dictionary_mut().unwrap()
}

fn set(dictionary: &mut Dictionary, key: &str, value: impl Into<Value>) {
    dictionary.insert(key.into(), value.into());
}

fn list(names: &[&str]) -> Value {
    Value::Array(names.iter().map(|name| Value::from(*name)).collect())
}

/// Asserts that exactly one complaint is about `at`, of this severity, and says so; a device's refusals come first.
fn complains(bytes: &[u8], severity: Severity, at: &str, says: &str) {
    let all = lint(bytes);
    let about: Vec<_> = all.iter().filter(|complaint| complaint.at == at && complaint.says.contains(says)).collect();
    assert!(matches!(about[..], [one] if one.severity == severity), "{severity:?} {at} {says:?} in {all:#?}");
    assert!(all.is_sorted_by_key(|complaint| complaint.severity));
}

#[test]
fn a_good_profile_has_no_complaint() {
    assert_eq!(lint(&good().mobileconfig()), []);
    let with = Profile { identity: Some(identity()), ..good() };
    assert_eq!(lint(&with.mobileconfig()), []);
    // A binary property list is one too.
    let mut binary = Vec::new();
    Value::from_reader(Cursor::new(good().mobileconfig())).unwrap().to_writer_binary(&mut binary).unwrap();
    assert_eq!(lint(&binary), []);
}

#[test]
fn a_signed_profile_is_looked_into() {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let authority = Authority::new("Test CA", now).unwrap();
    let signed = |xml: &[u8]| cms::sign(xml, &authority, now).unwrap();
    assert_eq!(lint(&signed(&good().mobileconfig())), []);
    complains(&signed(b"nothing"), Severity::Refused, "", "no property list");
}

#[test]
fn what_is_no_profile_is_refused() {
    complains(b"", Severity::Refused, "", "no property list");
    complains(b"<plist><array/></plist>", Severity::Refused, "", "not a dictionary");
    complains(b"<plist><dict/></plist>", Severity::Refused, "PayloadContent", "array");
}

/// What a device refuses: how the profile is changed, and what is said about which key.
#[test]
fn what_a_device_refuses() {
    type Change = fn(&mut Dictionary);
    let cases: &[(Change, &str, &str)] = &[
        (|top| set(top, "PayloadType", "Other"), "PayloadType", "Configuration"),
        (|top| drop(top.remove("PayloadUUID")), "PayloadUUID", "missing"),
        (|top| set(top, "PayloadVersion", 2), "PayloadVersion", "1"),
        (|top| drop(payload(top).remove("PayloadIdentifier")), "PayloadContent[0].PayloadIdentifier", "missing"),
        (|top| drop(payload(top).insert("PayloadType".into(), "com.apple.vpn.managed".into())), "PayloadContent", "relay"),
        (|top| set(payload(top), "Relays", Value::Array(Vec::new())), "Relays", "0 relays"),
        (|top| set(payload(top), "Relays", "https://relay.example"), "Relays", "array"),
        (|top| set(payload(top), "Relays", list(&["https://relay.example"])), "Relays[0]", "dictionary"),
        (
            |top| {
                let relays = payload(top).get_mut("Relays").and_then(Value::as_array_mut).unwrap();
                relays.extend([relays[0].clone(), relays[0].clone()]);
            },
            "Relays",
            "3 relays",
        ),
        (
            |top| {
                relay(top).remove("HTTP3RelayURL");
                relay(top).remove("HTTP2RelayURL");
            },
            "Relays[0].HTTP3RelayURL",
            "one of them",
        ),
        (|top| set(relay(top), "HTTP2RelayURL", "http://relay.example"), "Relays[0].HTTP2RelayURL", "https"),
        (|top| set(relay(top), "HTTP2RelayURL", "relay.example"), "Relays[0].HTTP2RelayURL", "https"),
        (|top| set(relay(top), "HTTP2RelayURL", 443), "Relays[0].HTTP2RelayURL", "text"),
        (|top| set(relay(top), "HTTP3RelayURL", "https://relay.example/{target_host}"), "Relays[0].HTTP3RelayURL", "target_port"),
        (|top| set(relay(top), "AdditionalHTTPHeaderFields", "x: y"), "Relays[0].AdditionalHTTPHeaderFields", "dictionary"),
        (
            |top| set(relay(top), "AdditionalHTTPHeaderFields", Dictionary::from_iter([("a b", "c")])),
            "Relays[0].AdditionalHTTPHeaderFields.a b",
            "no name of a field",
        ),
        (
            |top| set(relay(top), "AdditionalHTTPHeaderFields", Dictionary::from_iter([("x", "a\r\nb")])),
            "Relays[0].AdditionalHTTPHeaderFields.x",
            "no field can carry",
        ),
        (
            |top| set(relay(top), "AdditionalHTTPHeaderFields", Dictionary::from_iter([("x", Value::from(7))])),
            "Relays[0].AdditionalHTTPHeaderFields.x",
            "text",
        ),
        (|top| set(relay(top), "PayloadCertificateUUID", "nowhere"), "Relays[0].PayloadCertificateUUID", "no payload"),
        (
            |top| {
                let own = payload(top)["PayloadUUID"].clone();
                set(relay(top), "PayloadCertificateUUID", own);
            },
            "Relays[0].PayloadCertificateUUID",
            "no identity",
        ),
        (|top| set(relay(top), "RawPublicKeys", "key"), "Relays[0].RawPublicKeys", "array"),
        (|top| set(relay(top), "RawPublicKeys", vec![Value::Data(vec![0x30, 0])]), "Relays[0].RawPublicKeys[0]", "no public key"),
        (|top| set(payload(top), "MatchDomains", "corp.example"), "MatchDomains", "array"),
        (|top| set(payload(top), "MatchDomains", vec![Value::from(1)]), "MatchDomains", "nothing but names"),
        (|top| set(payload(top), "MatchDomains", list(&["*.corp.example"])), "MatchDomains", "without `*.`"),
        (|top| set(payload(top), "MatchDomains", list(&["https://corp.example"])), "MatchDomains", "not a URL"),
        (|top| set(payload(top), "MatchDomains", list(&[".corp.example"])), "MatchDomains", "dot in front"),
        (|top| set(payload(top), "MatchFQDNs", list(&["corp.example:443"])), "MatchFQDNs", "port"),
        (|top| set(payload(top), "MatchDomains", list(&["corp example"])), "MatchDomains", "no name"),
        (|top| set(payload(top), "ExcludedDomains", list(&[""])), "ExcludedDomains", "empty"),
        (|top| set(payload(top), "ExcludedFQDNs", list(&["www.example"])), "ExcludedFQDNs", "under no match"),
        (|top| set(payload(top), "UIToggleEnabled", "yes"), "UIToggleEnabled", "true or false"),
        (
            |top| {
                let own = top["PayloadUUID"].clone();
                set(payload(top), "PayloadUUID", own);
            },
            "PayloadContent[0].PayloadUUID",
            "its own",
        ),
    ];
    for (change, at, says) in cases {
        complains(&changed(&good(), change), Severity::Refused, at, says);
    }
}

#[test]
fn what_comes_with_a_relay_is_looked_at_too() {
    let with = Profile { identity: Some(identity()), authorities: vec![vec![0x30, 0]], ..good() };
    complains(&with.mobileconfig(), Severity::Refused, "PayloadContent[0].PayloadContent", "no certificate");
    let with = Profile { identity: Some(identity()), ..good() };
    for (key, value, at, says) in [
        ("PayloadContent", Value::Data(vec![0x30, 0]), "PayloadContent[0].PayloadContent", "no PKCS#12"),
        ("PayloadContent", Value::from("text"), "PayloadContent[0].PayloadContent", "data"),
        ("Password", Value::from("wrong"), "PayloadContent[0].Password", "does not open"),
    ] {
        complains(&changed(&with, |top| set(first(top), key, value)), Severity::Refused, at, says);
    }
    let asks = changed(&with, |top| drop(first(top).remove("Password")));
    complains(&asks, Severity::Trap, "PayloadContent[0].Password", "asks for it");
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let leaf = Authority::new("Test CA", now).unwrap().server(&["relay.example".into()], Duration::from_secs(86_400 * 9), now).unwrap();
    let leaf = rustls::pki_types::CertificateDer::from_pem_slice(leaf.chain.as_bytes()).unwrap().to_vec();
    complains(
        &Profile { authorities: vec![leaf], ..good() }.mobileconfig(),
        Severity::Trap,
        "PayloadContent[0].PayloadContent",
        "CN=relay.example is no CA",
    );
}

/// Each of them asks for sixteen times the work that is usual: what all of them may have is what one may.
#[test]
fn many_identities_get_no_more_work_than_one() {
    let mut slow = identity();
    let iterations = slow.pkcs12.len() - 2;
    slow.pkcs12[iterations..].copy_from_slice(&0x7fff_u16.to_be_bytes());
    let bytes = changed(&Profile { identity: Some(slow), ..good() }, |top| {
        let content = top.get_mut("PayloadContent").and_then(Value::as_array_mut).unwrap();
        content.extend(vec![content[0].clone(); 199]);
    });
    let refused = lint(&bytes).into_iter().filter(|complaint| complaint.says.contains("does not open")).count();
    assert_eq!(refused, 5_000_000 / 0x7fff, "whether the rest of the 200 opens is not known");
}

/// What a device takes, and few people mean.
#[test]
fn traps() {
    type Change = fn(&mut Dictionary);
    let cases: &[(Change, &str, &str)] = &[
        (|top| drop(payload(top).remove("MatchDomains")), "MatchDomains", "everything the device does"),
        (
            |top| {
                set(payload(top), "MatchDomains", list(&[]));
                set(payload(top), "ExcludedDomains", list(&["corp.example"]));
            },
            "MatchDomains",
            "everything but the exclusions",
        ),
        (|top| set(payload(top), "MatchDomains", list(&["Example"])), "Relays[0].HTTP3RelayURL", "itself among the matches"),
        (|top| set(payload(top), "MatchFQDNs", list(&["relay.example."])), "Relays[0].HTTP3RelayURL", "itself among the matches"),
        (|top| set(payload(top), "ExcludedDomains", list(&["corp.example"])), "MatchDomains", "exclusions win"),
        (|top| set(payload(top), "ExcludedDomains", list(&["other.example"])), "ExcludedDomains", "under no match"),
        (|top| drop(relay(top).remove("AdditionalHTTPHeaderFields")), "Relays[0].AdditionalHTTPHeaderFields", "no credential"),
        (
            |top| set(relay(top), "AdditionalHTTPHeaderFields", Dictionary::from_iter([("authorization", "Bearer x")])),
            "Relays[0].AdditionalHTTPHeaderFields.authorization",
            "Proxy-Authorization",
        ),
        (|top| drop(relay(top).remove("HTTP2RelayURL")), "Relays[0].HTTP2RelayURL", "blocks UDP"),
        (|top| set(relay(top), "HTTP3RelayURL", "https://192.0.2.7"), "Relays[0].HTTP3RelayURL", "SAN"),
        (|top| set(relay(top), "HTTP3RelayURL", "https://localhost:4433"), "Relays[0].HTTP3RelayURL", "device itself"),
        (|top| set(relay(top), "RawPublicKeys", Value::Array(Vec::new())), "Relays[0].RawPublicKeys", "empty"),
        (|top| set(payload(top), "MatchFQDNs", list(&["www.example"])), "MatchFQDNs", "iOS 18.4, macOS 15.4"),
        (|top| set(payload(top), "ExcludedFQDNs", list(&["vpn.corp.example"])), "ExcludedFQDNs", "iOS 18.4, macOS 15.4"),
        (|top| set(payload(top), "UIToggleEnabled", false), "UIToggleEnabled", "26"),
        (|top| set(payload(top), "AllowDNSFailover", true), "AllowDNSFailover", "26"),
        (|top| set(payload(top), "Excluded FQDNs", list(&["a.example"])), "Excluded FQDNs", "is it `ExcludedFQDNs`?"),
        (|top| set(relay(top), "DNSOverHTTPSURL", "https://a.example"), "Relays[0].DNSOverHTTPSURL", "no key"),
    ];
    for (change, at, says) in cases {
        complains(&changed(&good(), change), Severity::Trap, at, says);
    }
}

#[test]
fn a_relays_own_host_may_be_excluded_from_its_matches() {
    let exclude = |key: &str, name: &str| {
        lint(&changed(&good(), |top| {
            set(payload(top), "MatchDomains", list(&["example"]));
            set(payload(top), key, list(&[name]));
        }))
    };
    for complaints in [exclude("ExcludedDomains", "relay.example"), exclude("ExcludedFQDNs", "RELAY.example")] {
        assert!(complaints.iter().all(|complaint| !complaint.says.contains("itself")), "{complaints:#?}");
    }
    assert!(exclude("ExcludedFQDNs", "other.example").iter().any(|complaint| complaint.says.contains("itself")));
}

#[test]
fn a_url_with_a_plain_path_is_one() {
    for url in [
        "https://relay.example/proxy",
        "https://relay.example/?a=b",
        "https://relay.example:8443/.well-known/masque/udp/{target_host}/{target_port}/",
    ] {
        assert_eq!(lint(&changed(&good(), |top| set(relay(top), "HTTP3RelayURL", url))), [], "{url}");
    }
}

#[test]
fn credentials_are_not_repeated() {
    let shown = lint(&changed(&good(), |top| {
        set(relay(top), "AdditionalHTTPHeaderFields", Dictionary::from_iter([("x", "hush\u{7f}")]));
    }));
    assert!(shown.iter().all(|complaint| !complaint.to_string().contains("hush")), "{shown:#?}");
}
