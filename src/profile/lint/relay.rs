//! The payload with the relays: URLs, fields and keys.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use plist::{Dictionary, Value};
use x509_parser::{prelude::FromDer, x509::SubjectPublicKeyInfo};

use super::{Complaints, keys, kind, names::Lists, uuid};
use crate::{
    profile::payload::PKCS12,
    proto::url::{Url, UrlError},
};

pub(super) fn payload(payload: &Dictionary, all: &[&Dictionary], complaints: &mut Complaints) {
    keys::check(payload, "", keys::PAYLOAD, complaints);
    for key in ["UIToggleEnabled", "AllowDNSFailover"] {
        if payload.get(key).is_some_and(|value| value.as_boolean().is_none()) {
            complaints.refused(key, "must be true or false");
        }
    }
    let lists = Lists::read(payload, complaints);
    lists.check(complaints);
    match payload.get("Relays").and_then(Value::as_array) {
        None => complaints.refused("Relays", "must be an array with one or two relays"),
        Some(relays) if relays.is_empty() || relays.len() > 2 => {
            complaints.refused("Relays", format!("has {} relays: one or two can be chained", relays.len()));
        }
        Some(relays) => {
            for (index, relay) in relays.iter().enumerate() {
                let at = format!("Relays[{index}]");
                match relay.as_dictionary() {
                    Some(relay) => Entry { relay, at: format!("{at}."), all, lists: &lists }.check(complaints),
                    None => complaints.refused(&at, "must be a dictionary"),
                }
            }
        }
    }
}

/// One relay, among the payloads it refers to.
struct Entry<'a> {
    relay: &'a Dictionary,
    /// `Relays[0].`
    at: String,
    all: &'a [&'a Dictionary],
    lists: &'a Lists<'a>,
}

impl Entry<'_> {
    fn check(&self, complaints: &mut Complaints) {
        keys::check(self.relay, &self.at, keys::RELAY, complaints);
        let has = |key: &str| self.relay.contains_key(key);
        if !has("HTTP3RelayURL") && !has("HTTP2RelayURL") {
            complaints.refused(&self.at("HTTP3RelayURL"), "is missing, and so is `HTTP2RelayURL`: a relay needs one of them");
        }
        if has("HTTP3RelayURL") && !has("HTTP2RelayURL") {
            complaints.trap(&self.at("HTTP2RelayURL"), "is missing: where a network blocks UDP, the relay cannot be reached");
        }
        let hosts: Vec<_> = ["HTTP3RelayURL", "HTTP2RelayURL"].into_iter().filter_map(|key| self.url(key, complaints)).collect();
        if let Some((key, host)) = hosts.first() {
            self.host(key, host, complaints);
        }
        let fields = self.fields(complaints);
        let identity = self.identity(complaints);
        if !fields && !identity {
            complaints.trap(
                &self.at("AdditionalHTTPHeaderFields"),
                "is empty, and there is no client identity: the relay gets no credential, and the device may not try again at a 407",
            );
        }
        self.public_keys(complaints);
    }

    fn at(&self, key: &str) -> String {
        format!("{}{key}", self.at)
    }

    /// The host of a URL, if it is one.
    fn url(&self, key: &'static str, complaints: &mut Complaints) -> Option<(String, String)> {
        let at = self.at(key);
        let Some(text) = self.relay.get(key)?.as_string() else {
            complaints.refused(&at, "must be text");
            return None;
        };
        if text.to_ascii_lowercase().starts_with("http://") {
            complaints.refused(&at, "starts with http://: a relay is reached over TLS, write https://");
            return None;
        }
        match Url::parse(text) {
            Ok(url) => Some((at, url.host)),
            // A URL with a path that is no template is allowed; clients then ask for the well-known path.
            Err(UrlError::Template(_)) if !text.contains('{') => {
                let end = text["https://".len()..].find(['/', '?']).map_or(text.len(), |at| at + "https://".len());
                Url::parse(&text[..end]).ok().map(|url| (at, url.host))
            }
            Err(error) => {
                complaints.refused(&at, format!("is no URL of a relay: {error}"));
                None
            }
        }
    }

    fn host(&self, at: &str, host: &str, complaints: &mut Complaints) {
        let address = host.parse::<IpAddr>().ok();
        let loopback = address.is_some_and(|ip| ip.is_loopback()) || host.eq_ignore_ascii_case("localhost");
        if loopback {
            complaints.trap(at, format!("`{host}` is the device itself: only this machine reaches a relay there"));
        } else if address.is_some() {
            complaints.trap(at, format!("`{host}` is an address: the relay's certificate must name it (SAN), a DNS name is not enough"));
        }
        self.lists.check_host(host, at, complaints);
    }

    /// Whether there are header fields.
    fn fields(&self, complaints: &mut Complaints) -> bool {
        let at = self.at("AdditionalHTTPHeaderFields");
        let Some(value) = self.relay.get("AdditionalHTTPHeaderFields") else { return false };
        let Some(fields) = value.as_dictionary() else {
            complaints.refused(&at, "must be a dictionary of texts");
            return false;
        };
        for (name, value) in fields {
            let at = format!("{at}.{}", name.escape_debug());
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                complaints.refused(&at, "is no name of a field");
            }
            // The value is a credential: it is not repeated.
            match value.as_string() {
                Some(text) if !text.is_empty() && HeaderValue::from_str(text).is_ok() => {}
                Some(_) => complaints.refused(&at, "has a value that is empty or has characters that no field can carry"),
                None => complaints.refused(&at, "must be text"),
            }
            if name.eq_ignore_ascii_case("authorization") {
                complaints.trap(&at, "is not read by a relay unless it is told to: the credential goes into `Proxy-Authorization`");
            }
        }
        !fields.is_empty()
    }

    /// Whether there is a client identity.
    fn identity(&self, complaints: &mut Complaints) -> bool {
        let at = self.at("PayloadCertificateUUID");
        let Some(value) = self.relay.get("PayloadCertificateUUID") else { return false };
        let found = value.as_string().and_then(|wanted| self.all.iter().find(|payload| uuid(payload) == Some(wanted)));
        match found.map(|payload| kind(payload)) {
            None => complaints.refused(&at, "is the UUID of no payload in this profile"),
            Some(PKCS12 | "com.apple.security.scep" | "com.apple.security.acme") => {}
            Some(other) => complaints.refused(&at, format!("is the UUID of a `{other}`, which is no identity")),
        }
        true
    }

    fn public_keys(&self, complaints: &mut Complaints) {
        let at = self.at("RawPublicKeys");
        let Some(value) = self.relay.get("RawPublicKeys") else { return };
        let Some(keys) = value.as_array() else {
            complaints.refused(&at, "must be an array of data");
            return;
        };
        if keys.is_empty() {
            complaints.trap(&at, "is empty: the device wants a certificate it trusts, as without the key");
        }
        for (index, key) in keys.iter().enumerate() {
            let read = key.as_data().and_then(|der| SubjectPublicKeyInfo::from_der(der).ok());
            if read.is_none_or(|(rest, _)| !rest.is_empty()) {
                complaints.refused(&format!("{at}[{index}]"), "is no public key in DER (SubjectPublicKeyInfo)");
            }
        }
    }
}
