//! The same configuration as declarations (`com.apple.configuration.network.relay`, systems of version 27 and later).
//!
//! A declaration holds no certificate and no key. It names assets, which the device fetches from a URL of the operator's: those of the
//! assets written here are under [`PLACE`] and wait for being filled in.

use serde_json::{Map, Value, json};

use super::{Profile, payload::numbered};
use crate::certs::facts::hex;

/// Where assets are until somebody says better; `.invalid` never resolves (RFC 6761 §6.4).
pub const PLACE: &str = "https://assets.invalid/";

impl Profile {
    /// The declarations, as one JSON array: the relay's first, then what it refers to.
    pub fn declarations(&self) -> String {
        let mut payload = Map::new();
        payload.insert("VisibleName".into(), self.name.as_str().into());
        let mut assets = Vec::new();
        let relays = self.relays.iter().enumerate().map(|(index, relay)| {
            let mut entry = Map::new();
            for (key, url) in [("HTTP3RelayURL", &relay.h3), ("HTTP2RelayURL", &relay.h2)] {
                entry.extend(url.as_ref().map(|url| (key.to_owned(), url.as_str().into())));
            }
            if !relay.headers.is_empty() {
                let fields: Map<_, _> = relay.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
                entry.insert("AdditionalHTTPHeaderFields".into(), fields.into());
            }
            if index == 0 && self.identity.is_some() {
                let (identifier, asset) =
                    self.asset("identity", "com.apple.asset.credential.identity", "identity.json", "application/json");
                // Betas of version 27 called it CredentialAssetReference.
                entry.insert("IdentityAssetReference".into(), identifier.into());
                assets.push(asset);
            }
            let keys: Vec<_> = (0..relay.public_keys.len())
                .map(|key| {
                    let name = numbered(&numbered("public-key", index), key);
                    let (identifier, asset) = self.asset(&name, "com.apple.asset.data", &format!("{name}.der"), "application/octet-stream");
                    assets.push(asset);
                    Value::from(identifier)
                })
                .collect();
            if !keys.is_empty() {
                entry.insert("PublicKeyData".into(), keys.into());
            }
            Value::from(entry)
        });
        payload.insert("Relays".into(), relays.collect());
        for (key, names) in self.matches.keys() {
            if !names.is_empty() {
                payload.insert(key.into(), names.into());
            }
        }
        payload.insert("RelayUUID".into(), self.part("configuration").1.into());
        payload.extend(self.switchable.map(|switchable| ("UIToggleEnabled".to_owned(), switchable.into())));
        payload.extend(self.dns_failover.map(|failover| ("AllowDNSFailover".to_owned(), failover.into())));

        let mut all = vec![self.declaration("relay", "com.apple.configuration.network.relay", &payload.into()).1];
        for index in 0..self.authorities.len() {
            let name = numbered("ca", index);
            let (identifier, asset) =
                self.asset(&format!("{name}-data"), "com.apple.asset.credential.certificate", &format!("{name}.pem"), "application/pem");
            let trust = json!({ "CredentialAssetReference": identifier });
            all.push(self.declaration(&name, "com.apple.configuration.security.certificate", &trust).1);
            assets.push(asset);
        }
        all.extend(assets);
        let mut text = serde_json::to_string_pretty(&all).expect("JSON values are JSON");
        text.push('\n');
        text
    }

    fn asset(&self, name: &str, kind: &str, file: &str, media: &str) -> (String, Value) {
        self.declaration(name, kind, &json!({ "Reference": { "DataURL": format!("{PLACE}{file}"), "ContentType": media } }))
    }

    /// The declaration, and the identifier by which others refer to it. Its token changes with its content, so that devices see the change.
    fn declaration(&self, name: &str, kind: &str, payload: &Value) -> (String, Value) {
        let (identifier, _) = self.part(name);
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload.to_string().as_bytes());
        let token = hex(&hash.as_ref()[..16]);
        let value = json!({ "Type": kind, "Identifier": identifier, "ServerToken": token, "Payload": payload });
        (identifier, value)
    }
}
