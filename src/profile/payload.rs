//! A profile as a `.mobileconfig`: an XML property list.

use plist::{Dictionary, Value, XmlWriteOptions};

use super::{Profile, Relay};
use crate::certs::facts::Facts;

/// The payload with the relays.
pub const RELAY: &str = "com.apple.relay.managed";
/// A client's certificate with its key.
pub const PKCS12: &str = "com.apple.security.pkcs12";
/// An authority to trust.
pub const ROOT: &str = "com.apple.security.root";
/// A certificate on the way to one.
pub const INTERMEDIATE: &str = "com.apple.security.pkcs1";

impl Profile {
    /// The `.mobileconfig`, unsigned. Of the same profile it is the same to the byte.
    pub fn mobileconfig(&self) -> Vec<u8> {
        let identifier = self.identifier();
        let mut top = common("Configuration", (identifier.clone(), super::uuid::of(&identifier)), &self.name);
        if let Some(organization) = &self.organization {
            top.insert("PayloadOrganization".into(), organization.as_str().into());
        }
        top.insert("PayloadDescription".into(), self.description().into());
        let mut content: Vec<Value> = Vec::new();
        for (index, der) in self.authorities.iter().enumerate() {
            content.push(self.authority(index, der).into());
        }
        if let Some(identity) = &self.identity {
            let mut payload = common(PKCS12, self.part("identity"), "Client identity");
            payload.insert("PayloadCertificateFileName".into(), "identity.p12".into());
            payload.insert("PayloadContent".into(), Value::Data(identity.pkcs12.clone()));
            payload.insert("Password".into(), identity.password.as_str().into());
            content.push(payload.into());
        }
        content.push(self.relay_payload().into());
        top.insert("PayloadContent".into(), content.into());

        let mut xml = Vec::new();
        let options = XmlWriteOptions::default().indent(b'\t', 1);
        Value::from(top).to_writer_xml_with_options(&mut xml, &options).expect("a Vec takes everything");
        xml.push(b'\n');
        xml
    }

    fn description(&self) -> String {
        let matches = &self.matches;
        let what = if matches.domains.is_empty() && matches.names.is_empty() { "All connections" } else { "Connections to chosen names" };
        let identifier = self.identifier();
        let host = identifier.strip_prefix("masque-relay.").unwrap_or_default();
        format!("{what} go through the relay at {host}.")
    }

    fn authority(&self, index: usize, der: &[u8]) -> Dictionary {
        let facts = Facts::read(der);
        // What signs itself ends a chain; anything else is a step on the way to it.
        let kind = if facts.as_ref().is_ok_and(|facts| !facts.self_issued) { INTERMEDIATE } else { ROOT };
        let shown = facts.map_or_else(|_| "Relay CA".into(), |facts| facts.subject.trim_start_matches("CN=").to_owned());
        let mut payload = common(kind, self.part(&numbered("ca", index)), &shown);
        payload.insert("PayloadCertificateFileName".into(), format!("{}.cer", numbered("ca", index)).into());
        payload.insert("PayloadContent".into(), Value::Data(der.into()));
        payload
    }

    fn relay_payload(&self) -> Dictionary {
        let mut payload = common(RELAY, self.part("relay"), &self.name);
        let relays = self.relays.iter().enumerate().map(|(index, relay)| {
            let mut entry = relay.entry();
            if index == 0 && self.identity.is_some() {
                entry.insert("PayloadCertificateUUID".into(), self.part("identity").1.into());
            }
            Value::from(entry)
        });
        payload.insert("Relays".into(), relays.collect::<Vec<_>>().into());
        for (key, names) in self.matches.keys() {
            if !names.is_empty() {
                payload.insert(key.into(), names.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>().into());
            }
        }
        payload.insert("RelayUUID".into(), self.part("configuration").1.into());
        if let Some(switchable) = self.switchable {
            payload.insert("UIToggleEnabled".into(), switchable.into());
        }
        if let Some(failover) = self.dns_failover {
            payload.insert("AllowDNSFailover".into(), failover.into());
        }
        payload
    }
}

impl Relay {
    fn entry(&self) -> Dictionary {
        let mut entry = Dictionary::new();
        for (key, url) in [("HTTP3RelayURL", &self.h3), ("HTTP2RelayURL", &self.h2)] {
            if let Some(url) = url {
                entry.insert(key.into(), url.as_str().into());
            }
        }
        if !self.headers.is_empty() {
            let fields: Dictionary = self.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            entry.insert("AdditionalHTTPHeaderFields".into(), fields.into());
        }
        if !self.public_keys.is_empty() {
            let keys: Vec<_> = self.public_keys.iter().map(|key| Value::Data(key.clone())).collect();
            entry.insert("RawPublicKeys".into(), keys.into());
        }
        entry
    }
}

impl super::Matches {
    /// The keys of profile and declaration with their names.
    pub(super) fn keys(&self) -> [(&'static str, &[String]); 4] {
        [
            ("MatchDomains", &self.domains),
            ("MatchFQDNs", &self.names),
            ("ExcludedDomains", &self.excluded_domains),
            ("ExcludedFQDNs", &self.excluded_names),
        ]
    }
}

/// What every payload has.
fn common(kind: &str, (identifier, uuid): (String, String), shown: &str) -> Dictionary {
    let mut payload = Dictionary::new();
    payload.insert("PayloadType".into(), kind.into());
    payload.insert("PayloadVersion".into(), 1.into());
    payload.insert("PayloadIdentifier".into(), identifier.into());
    payload.insert("PayloadUUID".into(), uuid.into());
    payload.insert("PayloadDisplayName".into(), shown.into());
    payload
}

/// `ca`, `ca-2`, `ca-3`.
pub(super) fn numbered(name: &str, index: usize) -> String {
    if index == 0 { name.into() } else { format!("{name}-{}", index + 1) }
}
