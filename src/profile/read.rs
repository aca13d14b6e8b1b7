//! A profile read back: what a device would make of it.

use std::io::Cursor;

use plist::{Dictionary, Value};
use zeroize::Zeroizing;

use super::{
    Identity, Matches, Profile, Relay,
    payload::{INTERMEDIATE, PKCS12, RELAY, ROOT},
};
use crate::certs::cms;

/// The profile in a `.mobileconfig`, signed or not; none if it is none, or is about no relay. What is wrong with it is [`lint`](super::lint)'s to say.
pub fn read(bytes: &[u8]) -> Option<Profile> {
    let unsigned = cms::content(bytes);
    let top = Value::from_reader(Cursor::new(unsigned.as_deref().unwrap_or(bytes))).ok()?.into_dictionary()?;
    let payloads: Vec<_> = top.get("PayloadContent")?.as_array()?.iter().filter_map(Value::as_dictionary).collect();
    let of = |kinds: &'static [&'static str]| {
        payloads.iter().filter(move |payload| text(payload, "PayloadType").is_some_and(|kind| kinds.contains(&kind)))
    };
    let payload = of(&[RELAY]).next()?;
    let entries: Vec<_> = payload.get("Relays")?.as_array()?.iter().filter_map(Value::as_dictionary).collect();
    let mut profile = Profile::new(text(&top, "PayloadDisplayName").unwrap_or_default(), Relay::default());
    profile.organization = text(&top, "PayloadOrganization").map(str::to_owned);
    profile.relays = entries.iter().map(|entry| relay(entry)).collect();
    profile.authorities =
        of(&[ROOT, INTERMEDIATE]).filter_map(|payload| Some(payload.get("PayloadContent")?.as_data()?.to_vec())).collect();
    let wanted = entries.first().and_then(|entry| text(entry, "PayloadCertificateUUID"));
    profile.identity =
        of(&[PKCS12]).find(|payload| wanted.is_some() && text(payload, "PayloadUUID") == wanted).and_then(|payload| identity(payload));
    profile.matches = Matches {
        domains: names(payload, "MatchDomains"),
        names: names(payload, "MatchFQDNs"),
        excluded_domains: names(payload, "ExcludedDomains"),
        excluded_names: names(payload, "ExcludedFQDNs"),
    };
    profile.switchable = payload.get("UIToggleEnabled").and_then(Value::as_boolean);
    profile.dns_failover = payload.get("AllowDNSFailover").and_then(Value::as_boolean);
    Some(profile)
}

fn relay(entry: &Dictionary) -> Relay {
    let url = |key| text(entry, key).map(str::to_owned);
    let fields = entry.get("AdditionalHTTPHeaderFields").and_then(Value::as_dictionary);
    let keys = entry.get("RawPublicKeys").and_then(Value::as_array);
    Relay {
        h3: url("HTTP3RelayURL"),
        h2: url("HTTP2RelayURL"),
        headers: fields.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_string()?.to_owned()))).collect(),
        public_keys: keys.into_iter().flatten().filter_map(|key| Some(key.as_data()?.to_vec())).collect(),
    }
}

fn identity(payload: &Dictionary) -> Option<Identity> {
    let pkcs12 = payload.get("PayloadContent")?.as_data()?.to_vec();
    Some(Identity { pkcs12, password: Zeroizing::new(text(payload, "Password").unwrap_or_default().to_owned()) })
}

fn names(payload: &Dictionary, key: &str) -> Vec<String> {
    let names = payload.get(key).and_then(Value::as_array);
    names.into_iter().flatten().filter_map(|name| Some(name.as_string()?.to_owned())).collect()
}

fn text<'a>(dictionary: &'a Dictionary, key: &str) -> Option<&'a str> {
    dictionary.get(key)?.as_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let relay = Relay {
            h3: Some("https://relay.example".into()),
            h2: Some("https://relay.example:8443".into()),
            headers: vec![("Proxy-Authorization".into(), "Bearer x".into())],
            public_keys: vec![vec![1, 2]],
        };
        let mut profile = Profile::new("Example", relay);
        profile.organization = Some("Org".into());
        profile.authorities = vec![vec![9]];
        profile.identity = Some(Identity { pkcs12: vec![5], password: Zeroizing::new("p".into()) });
        profile.matches.domains = vec!["example.com".into()];
        profile.switchable = Some(false);
        let written = profile.mobileconfig();
        let back = read(&written).unwrap();
        assert_eq!(back.mobileconfig(), written, "and so nothing was lost");
        assert_eq!((back.relays[0].h2.as_deref(), back.identity.unwrap().password.as_str()), (Some("https://relay.example:8443"), "p"));
        assert!(read(b"nothing").is_none() && read(b"<plist/>").is_none());
    }
}
